#pragma once

#include <cstdint>

#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"

namespace cairn {

/// Keeps an element whose word is at least `threshold`, times `scale`.
struct DropoutRule {
  uint32_t threshold;
  float scale;
};

/// y = residual + dropout(x + bias) over n elements of a row; `word(i)` is the random word of
/// element i. bias (kBias) and residual (kResidual) are read only where they exist.
template <bool kBias, bool kResidual, typename Team, typename T, typename Word>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void BiasDropoutAddRow(
    const Team& team, int64_t n, T* y, const T* x, const T* bias, const T* residual,
    DropoutRule rule, const Word& word) {
  team.for_each(n, [=](int64_t i) CAIRN_INLINE {
    float v = static_cast<float>(x[i]);
    if constexpr (kBias) v += static_cast<float>(bias[i]);
    v = word(i) >= rule.threshold ? v * rule.scale : 0.0f;
    if constexpr (kResidual) v += static_cast<float>(residual[i]);
    y[i] = T(v);
  });
}

}  // namespace cairn
