#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/ops/math.h"
#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"

namespace cairn {

/// What one rank knows of one token: the largest of its logits, the sum of exp(l - max), and the
/// target's logit or 0. Three floats of a `stats` tensor.
struct CrossEntropyPart {
  float max;
  float sum;
  float target_logit;
};
static_assert(sizeof(CrossEntropyPart) == 3 * sizeof(float));

/// Over the logits of n columns; `target` is the target's column, which may lie outside.
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline CrossEntropyPart CrossEntropyRow(const Team& team,
                                                                                 int64_t n,
                                                                                 const T* logits,
                                                                                 int64_t target) {
  const auto row = team.hold(n, logits);
  const float max = team.reduce_max(
      n, [](int64_t, const T& l) CAIRN_INLINE { return static_cast<float>(l); }, row);
  // With -infinity alone, or nothing at all, the differences below would be NaN.
  const float base = max == -__builtin_inff() ? 0.0f : max;
  const float sum = team.reduce(
      n, [=](int64_t, const T& l) CAIRN_INLINE { return Exp(static_cast<float>(l) - base); }, row);
  const bool local = target >= 0 && target < n;
  return {max, sum, local ? static_cast<float>(logits[target]) : 0.0f};
}

/// The logsumexp over the parts of all ranks, `stride` apart, and the sum of their target logits.
struct CrossEntropyTotal {
  double logsumexp;
  double target_logit;
};

CAIRN_HOST_DEVICE inline CrossEntropyTotal MergeCrossEntropy(const CrossEntropyPart* parts,
                                                             int64_t count, int64_t stride) {
  float max = -__builtin_inff();
  for (int64_t r = 0; r < count; ++r) {
    max = parts[r * stride].max > max ? parts[r * stride].max : max;
  }
  double sum = 0;
  double target_logit = 0;
  for (int64_t r = 0; r < count; ++r) {
    const CrossEntropyPart& part = parts[r * stride];
    sum += double{part.sum} * double{Exp(part.max - max)};  // 0 for a rank without a logit
    target_logit += part.target_logit;
  }
  return {max + std::log(sum), target_logit};
}

/// logits = (exp(l - logsumexp) - [column = target]) scale, over n columns.
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void CrossEntropyGradientRow(
    const Team& team, int64_t n, T* logits, int64_t target, float logsumexp, float scale) {
  // 32 bits wide like the logits: comparisons fit the same vectors. -1 is no column.
  const int32_t hot = target >= 0 && target < n ? static_cast<int32_t>(target) : -1;
  team.zip(
      n,
      [=](int64_t i, T& l) CAIRN_INLINE {
        const float p = Exp(static_cast<float>(l) - logsumexp);
        l = T((static_cast<int32_t>(i) == hot ? p - 1.0f : p) * scale);
      },
      logits);
}

}  // namespace cairn
