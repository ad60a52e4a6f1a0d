#pragma once

#include "runtime/autograd/weight.h"
#include "runtime/tensor/tensor.h"

/// CPU kernels behind embedding.h; the dispatch there has checked shapes.
namespace cairn::cpu {

void EmbeddingForward(const Tensor& y, const Tensor& tokens, const Tensor& table,
                      int64_t first_row);
void EmbeddingBackward(MainGrad& table, const Tensor& dy, const Tensor& tokens, int64_t first_row);
void PositionEmbeddingForward(const Tensor& y, const Tensor& x, const Tensor& table,
                              int64_t seq_length, int64_t first_token);
void PositionEmbeddingBackward(MainGrad& table, const Tensor& dy, int64_t seq_length,
                               int64_t first_token);

}  // namespace cairn::cpu
