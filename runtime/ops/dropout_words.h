#pragma once

#include <array>
#include <cstdint>

#include "runtime/tensor/random.h"

namespace cairn::cpu {

/// A run of random words at a time, four of each Philox block and several blocks side by side in
/// vector registers: the words that RandomWord gives one by one.
class RandomWords {
 public:
  static constexpr int64_t kCapacity = 1024;

  /// The words of the elements [first, first + n), n <= kCapacity; valid until the next call.
  const uint32_t* Generate(const RandomKey& key, uint64_t first, int64_t n);

 private:
  alignas(64) std::array<uint32_t, kCapacity + 8> words_;
};

}  // namespace cairn::cpu
