#pragma once

#include "runtime/tensor/tensor.h"

namespace cairn {

// The cross entropy of logits whose vocabulary is split over ranks, in pieces between which the
// ranks exchange three numbers a token. Targets are int32 [T]; a negative one is ignored.

/// stats fp32 [T, 3] = (max, sum of exp(l - max), logit of the target or 0 if it is not among the
/// local rows) over the first `valid` columns of logits [T, V_local] (fp32, bf16, fp16), which are
/// the logical rows from `first_row` on; columns from `valid` on are padding. `valid` may be 0:
/// (-infinity, 0, 0).
void CrossEntropyStats(const Tensor& stats, const Tensor& logits, const Tensor& targets,
                       int64_t first_row, int64_t valid);

/// parts fp32 [ranks, T, 3], merged in rank order. loss fp32 [T] = logsumexp - target's logit, 0
/// for ignored tokens; logsumexp fp32 [T].
void CrossEntropyMerge(const Tensor& loss, const Tensor& logsumexp, const Tensor& parts,
                       const Tensor& targets);

/// In place: logits = (softmax - onehot(target)) * loss_gradient of the row (fp32 [T]), in their
/// dtype; 0 in padding columns and for ignored tokens.
void CrossEntropyGradient(const Tensor& logits, const Tensor& targets, const Tensor& logsumexp,
                          int64_t first_row, int64_t valid, const Tensor& loss_gradient);

}  // namespace cairn
