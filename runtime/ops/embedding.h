#pragma once

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"

namespace cairn {

/// y [T, h] = the table's rows named by `tokens` (int32 [T]). The table [rows, h] holds the logical
/// rows [first_row, first_row + rows); other tokens give zeros, so that the sum over the ranks that
/// share a vocabulary is the embedding.
Value Embedding(Tape& tape, const Tensor& tokens, Weight& table, int64_t first_row);

/// y[t] = x[t] + table[(first_token + t) % seq_length]; x [T, h], table [at least seq_length, h].
/// first_token is the index of row 0 among the flattened tokens of the microbatch, of which a
/// sequence-parallel rank holds a shard.
Value AddPositionEmbedding(Tape& tape, const Value& x, Weight& table, int64_t seq_length,
                           int64_t first_token);

/// y [T, h] = rows of table [rows, h]; see Embedding.
void EmbeddingForward(const Tensor& y, const Tensor& tokens, const Tensor& table,
                      int64_t first_row);
/// table's gradient at each token's row += the token's row of dy [T, h], in the order of tokens.
void EmbeddingBackward(MainGrad& table, const Tensor& dy, const Tensor& tokens, int64_t first_row);
/// y, x [T, h]; see AddPositionEmbedding.
void PositionEmbeddingForward(const Tensor& y, const Tensor& x, const Tensor& table,
                              int64_t seq_length, int64_t first_token);
/// table's gradient at each position += the rows of dy [T, h] there, in order.
void PositionEmbeddingBackward(MainGrad& table, const Tensor& dy, int64_t seq_length,
                               int64_t first_token);

}  // namespace cairn
