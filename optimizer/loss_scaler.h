#pragma once

#include <cstdint>

namespace cairn {

/// Loss scaling for fp16 (Micikevicius et al. 2018) with Megatron-LM's dynamic rule: halve after
/// `hysteresis` overflows, double after `window` good steps in a row. The constant scale 1 serves
/// fp32 and bf16.
class LossScaler {
 public:
  struct Options {
    bool dynamic = false;
    double initial_scale = 1;
    double min_scale = 1;
    int64_t window = 1000;
    int64_t hysteresis = 2;
  };
  /// What a checkpoint keeps.
  struct State {
    double scale = 1;
    int64_t good_steps = 0;
    int64_t hysteresis_left = 2;
  };

  explicit LossScaler(const Options& options);

  double scale() const { return state_.scale; }
  /// Whether an overflow at this scale is nothing but a reason to lower it.
  bool can_shrink() const { return options_.dynamic && state_.scale > options_.min_scale; }
  /// Called after every step; `overflow`: its gradients were not finite.
  void Update(bool overflow);

  const State& state() const { return state_; }
  void set_state(const State& state) { state_ = state; }

 private:
  Options options_;
  State state_;
};

}  // namespace cairn
