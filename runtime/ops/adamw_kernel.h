#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/ops/adamw.h"
#include "runtime/ops/team.h"

namespace cairn {

/// What the loop over elements needs of a step, rounded from fp64 once.
struct AdamWFactors {
  explicit AdamWFactors(const AdamWStep& step)
      : keep(static_cast<float>(1.0 - double{step.lr} * step.weight_decay)),
        beta1(step.beta1),
        new1(static_cast<float>(1.0 - double{step.beta1})),
        beta2(step.beta2),
        new2(static_cast<float>(1.0 - double{step.beta2})),
        root_correction2(static_cast<float>(std::sqrt(double{step.bias_correction2}))),
        epsilon(step.epsilon),
        step_size(static_cast<float>(double{step.lr} / step.bias_correction1)),
        gradient_factor(step.gradient_factor) {}

  CAIRN_HOST_DEVICE float Keep(bool decays) const { return decays ? keep : 1.0f; }

  float keep;
  float beta1;
  float new1;
  float beta2;
  float new2;
  float root_correction2;
  float epsilon;
  float step_size;
  float gradient_factor;
};

/// Of DecayRuns: whether run number `run` decays.
CAIRN_HOST_DEVICE inline bool RunDecays(int64_t run, bool first_decays) {
  return (run % 2 == 0) == first_decays;
}

/// Of DecayRuns: the run that holds element i, which one of them does.
CAIRN_HOST_DEVICE inline int64_t RunOf(const int64_t* ends, int64_t runs, int64_t i) {
  int64_t low = 0;
  for (int64_t high = runs - 1; low < high;) {
    const int64_t middle = (low + high) / 2;
    if (i < ends[middle]) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/// p = p (1 - lr wd); m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
/// p = p - lr/c1 m / (sqrt(v)/sqrt(c2) + eps), over n elements. `keep(i)` is the first factor.
template <typename Team, typename KeepOf>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void AdamWRange(
    const Team& team, int64_t n, float* main, float* exp_avg, float* exp_avg_sq,
    const float* gradient, AdamWFactors k, const KeepOf& keep) {
  team.zip(
      n,
      [=](int64_t i, float& main, float& exp_avg, float& exp_avg_sq, const float& gradient)
          CAIRN_INLINE {
            const float g = gradient * k.gradient_factor;
            const float m = k.beta1 * exp_avg + k.new1 * g;
            const float v = k.beta2 * exp_avg_sq + k.new2 * (g * g);
            exp_avg = m;
            exp_avg_sq = v;
            const float denominator = std::sqrt(v) / k.root_correction2 + k.epsilon;
            main = main * keep(i) - k.step_size * (m / denominator);
          },
      main, exp_avg, exp_avg_sq, gradient);
}

}  // namespace cairn
