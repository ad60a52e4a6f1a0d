#pragma once

#include "runtime/tensor/tensor.h"

/// CPU kernels behind cross_entropy.h; the dispatch there has checked shapes.
namespace cairn::cpu {

void CrossEntropyStats(const Tensor& stats, const Tensor& logits, const Tensor& targets,
                       int64_t first_row, int64_t valid);
void CrossEntropyMerge(const Tensor& loss, const Tensor& logsumexp, const Tensor& parts,
                       const Tensor& targets);
void CrossEntropyGradient(const Tensor& logits, const Tensor& targets, const Tensor& logsumexp,
                          int64_t first_row, int64_t valid, const Tensor& loss_gradient);

}  // namespace cairn::cpu
