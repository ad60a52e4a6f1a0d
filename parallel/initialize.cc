#include "parallel/initialize.h"

#include <algorithm>
#include <span>
#include <vector>

#include "runtime/base/cpu_kernel.h"
#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/random.h"

namespace cairn {
namespace {

// FNV-1a: a parameter's sequence of random numbers is named by 63 bits of the hash of its name.
uint64_t HashName(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

RandomKey InitKey(uint64_t seed, const std::string& name) {
  const uint64_t hash = HashName(name);
  // Sites with the top bit set are initialisation, the others dropout (model/forward_context.h).
  return {seed, static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32) | 0x80000000u};
}

// Row-major index of a rectangle's element in the global tensor.
int64_t GlobalIndex(const Shape& global, const Rectangle& rectangle, int64_t element) {
  int64_t index = 0;
  int64_t stride = 1;
  for (int d = global.rank() - 1; d >= 0; --d) {
    index += (rectangle.offset[d] + element % rectangle.extent[d]) * stride;
    element /= rectangle.extent[d];
    stride *= global[d];
  }
  return index;
}

// Elements that are made on the host at a time: the memory does not grow with the parameter.
constexpr int64_t kSlice = 1 << 20;

// out = the elements [begin, begin + size of out) of this rank's part of the parameter.
void FillSlice(std::span<float> out, const Parameter& parameter, int64_t begin,
               const RandomKey& key) {
  std::ranges::fill(out, 0.0f);  // padding stays so
  std::vector<int64_t> starts;
  const std::vector<Rectangle> rectangles =
      parameter.shard.FlatRange(begin, begin + std::ssize(out), &starts);
  for (size_t r = 0; r < rectangles.size(); ++r) {
    float* const elements = out.data() + (starts[r] - begin);
    ParallelFor(rectangles[r].numel(), 1 << 12, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        switch (parameter.init.kind) {
          case InitSpec::Kind::kZeros:
            break;
          case InitSpec::Kind::kOnes:
            elements[i] = 1.0f;
            break;
          case InitSpec::Kind::kNormal: {
            const int64_t index = GlobalIndex(parameter.shard.global_shape, rectangles[r], i);
            elements[i] = static_cast<float>(parameter.init.standard_deviation *
                                             RandomNormal(key, static_cast<uint64_t>(index)));
            break;
          }
        }
      }
    });
  }
}

}  // namespace

void InitializeWeights(const StatePiece& piece, uint64_t seed) {
  if (piece.data.on_meta()) return;
  const RandomKey key = InitKey(seed, piece.parameter->name);
  const int64_t size = piece.data.numel();
  std::vector<float> slice(std::min(size, kSlice));
  for (int64_t done = 0; done < size; done += kSlice) {
    const auto out = std::span(slice).first(std::min(kSlice, size - done));
    FillSlice(out, *piece.parameter, piece.begin + done, key);
    const Tensor part = piece.data.Narrow(0, done, std::ssize(out));
    CopyTo(part, Tensor::FromHost<float>(out, part.shape(), part.device()));
  }
}

}  // namespace cairn
