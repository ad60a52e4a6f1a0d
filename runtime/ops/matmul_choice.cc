#include "runtime/ops/matmul_choice.h"

#include <algorithm>

namespace cairn {

std::optional<size_t> FastestCandidate(std::span<const std::vector<float>> times) {
  std::optional<size_t> fastest;
  float least = 0;
  for (size_t candidate = 0; candidate < times.size(); ++candidate) {
    std::vector<float> sorted = times[candidate];
    if (sorted.empty()) continue;
    std::sort(sorted.begin(), sorted.end());
    const float median = sorted[(sorted.size() - 1) / 2];
    if (fastest && median >= least) continue;
    fastest = candidate;
    least = median;
  }
  return fastest;
}

bool MayFuse(const Tensor& operand, const Tensor& side, const MatmulOptions& options) {
  constexpr int64_t kElements = 8;
  constexpr uintptr_t kBytes = 16;
  return options.row_block == 0 && operand.dtype() != DType::kFloat32 && side.contiguous() &&
         side.dim(-1) % kElements == 0 && reinterpret_cast<uintptr_t>(side.raw()) % kBytes == 0;
}

}  // namespace cairn
