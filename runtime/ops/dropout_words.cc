#include "runtime/ops/dropout_words.h"

#include <glog/logging.h>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/team.h"

namespace cairn::cpu {
namespace {

CAIRN_CPU_KERNEL void PhiloxBlocks(uint32_t* words, const RandomKey& key, uint64_t first,
                                   int64_t blocks) {
  const RandomKey local = key;
  CAIRN_INDEPENDENT_ITERATIONS
  for (int64_t b = 0; b < blocks; ++b) {
    const std::array<uint32_t, 4> block = Philox(local, first + static_cast<uint64_t>(b));
    words[4 * b] = block[0];
    words[4 * b + 1] = block[1];
    words[4 * b + 2] = block[2];
    words[4 * b + 3] = block[3];
  }
}

}  // namespace

const uint32_t* RandomWords::Generate(const RandomKey& key, uint64_t first, int64_t n) {
  DCHECK(n >= 0 && n <= kCapacity);
  const uint64_t skipped = first % 4;
  PhiloxBlocks(words_.data(), key, first / 4, (n + static_cast<int64_t>(skipped) + 3) / 4);
  return words_.data() + skipped;
}

}  // namespace cairn::cpu
