#pragma once

#include <cstdint>
#include <string>

namespace cairn {

enum class LrDecayStyle : uint8_t { kConstant, kLinear, kCosine, kInverseSquareRoot, kWsd };

/// "constant", "linear", "cosine", "inverse_square_root", "wsd". Throws Error(kConfig) for others.
LrDecayStyle ParseLrDecayStyle(const std::string& name);

/// The learning rate as a pure function of the iteration: linear warm-up to `max_lr`, then a decay
/// to `min_lr` that ends at `decay_iters`.
struct LrSchedule {
  LrDecayStyle style = LrDecayStyle::kCosine;
  double max_lr = 0;
  double min_lr = 0;
  int64_t warmup_iters = 0;
  int64_t decay_iters = 1;
  /// Length of the final linear decay of warm-up–stable–decay (Hu et al. 2024, "MiniCPM").
  int64_t wsd_decay_iters = 0;

  /// `iteration` counts from 1, the first step.
  double At(int64_t iteration) const;
};

}  // namespace cairn
