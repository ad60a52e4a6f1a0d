#pragma once

#include "parallel/communicator.h"
#include "runtime/autograd/tape.h"

namespace cairn {

/// Which logical rows of the vocabulary this rank's columns of the logits are.
struct VocabShard {
  int64_t first_row = 0;
  int64_t rows = 0;  ///< logical; the columns after them are padding
};

/// Cross entropy of each token, fp32 [T], from logits [T, V/tp] cut over tp. The logits are never
/// gathered: ranks exchange (max, Σ exp, target logit) of each token, once. The backward pass
/// overwrites the logits with their gradient. Targets are int32 [T]; -1 gives loss 0.
Value VocabParallelCrossEntropy(Tape& tape, const Value& logits, const Tensor& targets,
                                const VocabShard& shard, Communicator& tp);

}  // namespace cairn
