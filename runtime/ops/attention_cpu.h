#pragma once

#include "runtime/ops/attention.h"

/// CPU kernels behind attention.h; the dispatch there has checked shapes.
namespace cairn::cpu {

/// One task for each (sample, head).
void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec);

/// One task for each (sample, group): the query heads of a group add to one key and value in order.
void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec);

}  // namespace cairn::cpu
