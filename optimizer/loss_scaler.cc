#include "optimizer/loss_scaler.h"

#include <algorithm>

namespace cairn {

LossScaler::LossScaler(const Options& options) : options_(options) {
  state_ = {options.initial_scale, 0, options.hysteresis};
}

void LossScaler::Update(bool overflow) {
  if (!options_.dynamic) return;
  if (overflow) {
    state_.good_steps = 0;
    if (--state_.hysteresis_left <= 0) {
      state_.scale = std::max(state_.scale / 2, options_.min_scale);
    }
    return;
  }
  if (++state_.good_steps < options_.window) return;
  state_.good_steps = 0;
  state_.hysteresis_left = options_.hysteresis;
  state_.scale *= 2;
}

}  // namespace cairn
