#pragma once

#include "model/forward_context.h"
#include "runtime/autograd/weight.h"

namespace cairn {

/// Which logical rows of the vocabulary this rank's columns of the logits are.
struct VocabShard {
  int64_t first_row = 0;
  int64_t rows = 0;  ///< logical; the columns after them are padding
};

/// A chunk of logits is about this large at most: the products of a chunk run at full speed, and
/// the weight's gradient is not read and written more often than they hide.
constexpr int64_t kLogitsBytes = int64_t{128} << 20;

/// The output layer and the loss in one: the cross entropy of each of the batch's tokens, fp32 [T],
/// with the logits x·Wᵀ, x [T, h], the same on all ranks of tp, W [V/tp, h]. Tokens with the target
/// -1 have loss 0.
///
/// All logits never exist at once, and those of a token never meet: chunks of tokens take turns,
/// and ranks exchange (max, Σ exp, target logit) of each token. The gradient, a multiple of
/// batch.loss_gradient, overwrites a chunk's logits, and W's and x's are computed from it before
/// the next chunk's ("fused linear cross entropy", Hsu et al. 2024, "Liger Kernel"). So the
/// backward pass only hands on x's gradient: it must start from batch.loss_gradient itself.
Value VocabParallelLoss(ForwardContext& context, const Value& x, Weight& weight,
                        const VocabShard& shard, Communicator& tp,
                        int64_t logits_bytes = kLogitsBytes);

}  // namespace cairn
