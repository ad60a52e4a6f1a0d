#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"

namespace cairn {

/// Mean and 1/sqrt(variance + epsilon) of a row.
struct RowMoments {
  float mean;
  float rstd;
};

/// y = (x - mean) rstd gamma + beta over one row of n elements.
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline RowMoments LayerNormRow(
    const Team& team, int64_t n, T* y, const T* x, const T* gamma, const T* beta, float epsilon) {
  const float count = static_cast<float>(n);
  const auto row = team.hold(n, x);
  const float mean =
      team.reduce(
          n, [](int64_t, const T& x) CAIRN_INLINE { return static_cast<float>(x); }, row) /
      count;
  const float variance = team.reduce(
                             n,
                             [=](int64_t, const T& x) CAIRN_INLINE {
                               const float centred = static_cast<float>(x) - mean;
                               return centred * centred;
                             },
                             row) /
                         count;
  const float rstd = 1.0f / std::sqrt(variance + epsilon);
  team.zip(
      n,
      [=](int64_t, T& y, const T& x, const T& gamma, const T& beta) CAIRN_INLINE {
        const float normal = (static_cast<float>(x) - mean) * rstd;
        y = T(normal * static_cast<float>(gamma) + static_cast<float>(beta));
      },
      y, row, gamma, beta);
  return {mean, rstd};
}

/// With g = dy gamma and z = (x - mean) rstd: dx = rstd (g - mean(g) - z mean(g z)).
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void LayerNormGradientRow(const Team& team,
                                                                          int64_t n, T* dx,
                                                                          const T* dy, const T* x,
                                                                          const T* gamma,
                                                                          RowMoments moments) {
  const float mean = moments.mean;
  const float rstd = moments.rstd;
  const float count = static_cast<float>(n);
  const auto dy_row = team.hold(n, dy);
  const auto x_row = team.hold(n, x);
  const float mean_g = team.reduce(
                           n,
                           [](int64_t, const T& dy, const T& gamma) CAIRN_INLINE {
                             return static_cast<float>(dy) * static_cast<float>(gamma);
                           },
                           dy_row, gamma) /
                       count;
  const float mean_gz = team.reduce(
                            n,
                            [=](int64_t, const T& dy, const T& x, const T& gamma) CAIRN_INLINE {
                              const float g = static_cast<float>(dy) * static_cast<float>(gamma);
                              return g * ((static_cast<float>(x) - mean) * rstd);
                            },
                            dy_row, x_row, gamma) /
                        count;
  team.zip(
      n,
      [=](int64_t, T& dx, const T& dy, const T& x, const T& gamma) CAIRN_INLINE {
        const float g = static_cast<float>(dy) * static_cast<float>(gamma);
        const float z = (static_cast<float>(x) - mean) * rstd;
        dx = T(rstd * (g - mean_g - z * mean_gz));
      },
      dx, dy_row, x_row, gamma);
}

/// dy (x - mean) rstd: what one element adds to gamma's gradient.
template <typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline float LayerNormGammaTerm(T dy, T x,
                                                                         RowMoments moments) {
  const float z = (static_cast<float>(x) - moments.mean) * moments.rstd;
  return static_cast<float>(dy) * z;
}

/// The same over n elements of a row.
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void LayerNormGammaRow(const Team& team, int64_t n,
                                                                       float* out, const T* dy,
                                                                       const T* x,
                                                                       RowMoments moments) {
  team.for_each(n,
                [=](int64_t i) CAIRN_INLINE { out[i] = LayerNormGammaTerm(dy[i], x[i], moments); });
}

}  // namespace cairn
