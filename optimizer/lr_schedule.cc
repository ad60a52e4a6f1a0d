#include "optimizer/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/base/error.h"

namespace cairn {

LrDecayStyle ParseLrDecayStyle(const std::string& name) {
  if (name == "constant") return LrDecayStyle::kConstant;
  if (name == "linear") return LrDecayStyle::kLinear;
  if (name == "cosine") return LrDecayStyle::kCosine;
  if (name == "inverse_square_root") return LrDecayStyle::kInverseSquareRoot;
  if (name == "wsd") return LrDecayStyle::kWsd;
  Throw(ErrorKind::kConfig, "optimizer.lr_decay_style", "unknown style \"{}\"", name);
}

double LrSchedule::At(int64_t iteration) const {
  if (warmup_iters > 0 && iteration <= warmup_iters) {
    return max_lr * static_cast<double>(iteration) / static_cast<double>(warmup_iters);
  }
  if (style == LrDecayStyle::kConstant) return max_lr;
  if (iteration > decay_iters) return min_lr;
  if (style == LrDecayStyle::kInverseSquareRoot) {
    const double anchor = static_cast<double>(std::max<int64_t>(warmup_iters, 1));
    return std::max(min_lr, max_lr * std::sqrt(anchor / static_cast<double>(iteration)));
  }
  const int64_t start = style == LrDecayStyle::kWsd
                            ? std::max(warmup_iters, decay_iters - wsd_decay_iters)
                            : warmup_iters;
  if (iteration <= start) return max_lr;
  const double progress =
      static_cast<double>(iteration - start) / static_cast<double>(decay_iters - start);
  const double kept = style == LrDecayStyle::kCosine
                          ? 0.5 * (std::cos(std::numbers::pi * progress) + 1.0)
                          : 1.0 - progress;
  return min_lr + kept * (max_lr - min_lr);
}

}  // namespace cairn
