#pragma once

#include <cstdint>

#include "runtime/ops/math.h"
#include "runtime/ops/team.h"

namespace cairn {

// (1 + tanh u) / 2 = sigmoid(2u), which keeps its relative accuracy where tanh is near -1.
inline constexpr float kGeluLinear = 1.5957691216f;  // 2 sqrt(2/pi)
inline constexpr float kGeluCubic = 0.07135481283f;  // kGeluLinear * 0.044715

/// y = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void GeluRow(const Team& team, int64_t n, T* y,
                                                             const T* x) {
  team.zip(
      n,
      [](int64_t, T& y, const T& x) CAIRN_INLINE {
        const float v = static_cast<float>(x);
        y = T(v * Sigmoid(v * (kGeluLinear + kGeluCubic * (v * v))));
      },
      y, x);
}

/// dx = dy (s + x s (1 - s) 2u'), s = sigmoid(2u).
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void GeluGradientRow(const Team& team, int64_t n,
                                                                     T* dx, const T* dy,
                                                                     const T* x) {
  team.zip(
      n,
      [](int64_t, T& dx, const T& dy, const T& x) CAIRN_INLINE {
        const float v = static_cast<float>(x);
        const float square = v * v;
        const float s = Sigmoid(v * (kGeluLinear + kGeluCubic * square));
        const float slope = kGeluLinear + 3.0f * kGeluCubic * square;
        dx = T(static_cast<float>(dy) * (s + v * s * (1.0f - s) * slope));
      },
      dx, dy, x);
}

}  // namespace cairn
