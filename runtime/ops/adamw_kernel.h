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

/// p = p (1 - lr wd); m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
/// p = p - lr/c1 m / (sqrt(v)/sqrt(c2) + eps), over n elements.
template <typename Team>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void AdamWRange(const Team& team, int64_t n,
                                                                float* main, float* exp_avg,
                                                                float* exp_avg_sq,
                                                                const float* gradient,
                                                                AdamWFactors k) {
  team.for_each(n, [=](int64_t i) CAIRN_INLINE {
    const float g = gradient[i] * k.gradient_factor;
    const float m = k.beta1 * exp_avg[i] + k.new1 * g;
    const float v = k.beta2 * exp_avg_sq[i] + k.new2 * (g * g);
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    const float denominator = std::sqrt(v) / k.root_correction2 + k.epsilon;
    main[i] = main[i] * k.keep - k.step_size * (m / denominator);
  });
}

}  // namespace cairn
