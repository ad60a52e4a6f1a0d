#include "runtime/ops/embedding.h"

#include <glog/logging.h>

#include "runtime/ops/embedding_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

Value Embedding(Tape& tape, const Tensor& tokens, Weight& table, int64_t first_row) {
  Tensor y = Tensor::Empty({tokens.numel(), table.value.dim(-1)}, table.value.dtype(),
                           table.value.device());
  EmbeddingForward(y, tokens, table.Current(), first_row);
  MainGrad* const grad = tape.recording() ? table.grad : nullptr;
  if (grad == nullptr) return Value{std::move(y)};
  grad->NoteUse();
  return tape.Record("embedding", std::move(y), [=](Tape& tape, const Tensor& dy) {
    tape.DeferWeightGradient([=] {
      EmbeddingBackward(*grad, dy, tokens, first_row);
      grad->NoteContribution();
    });
  });
}

Value AddPositionEmbedding(Tape& tape, const Value& x, Weight& table, int64_t seq_length,
                           int64_t first_token) {
  Tensor y = x.data.EmptyLike();
  PositionEmbeddingForward(y, x.data, table.Current(), seq_length, first_token);
  MainGrad* const grad = tape.recording() ? table.grad : nullptr;
  if (!x.needs_gradient() && grad == nullptr) return Value{std::move(y)};
  if (grad != nullptr) grad->NoteUse();
  return tape.Record("position_embedding", std::move(y),
                     [=, id = x.id](Tape& tape, const Tensor& dy) {
                       if (grad != nullptr) {
                         tape.DeferWeightGradient([=] {
                           PositionEmbeddingBackward(*grad, dy, seq_length, first_token);
                           grad->NoteContribution();
                         });
                       }
                       tape.AddGradient(id, dy);
                     });
}

void EmbeddingForward(const Tensor& y, const Tensor& tokens, const Tensor& table,
                      int64_t first_row) {
  CHECK(y.contiguous() && tokens.contiguous() && table.contiguous());
  CHECK(table.rank() == 2 && y.dim(-1) == table.dim(1) && y.dtype() == table.dtype());
  CHECK_EQ(y.numel(), tokens.numel() * table.dim(1));
  Dispatch(
      "embedding", y, [&] { cpu::EmbeddingForward(y, tokens, table, first_row); },
      [&] { cuda::EmbeddingForward(y, tokens, table, first_row); });
}

void EmbeddingBackward(MainGrad& table, const Tensor& dy, const Tensor& tokens, int64_t first_row) {
  CHECK(dy.contiguous() && tokens.contiguous());
  CHECK_EQ(dy.numel(), tokens.numel() * dy.dim(-1));
  Dispatch(
      "embedding", dy, [&] { cpu::EmbeddingBackward(table, dy, tokens, first_row); },
      [&] { cuda::EmbeddingBackward(table, dy, tokens, first_row); });
}

void PositionEmbeddingForward(const Tensor& y, const Tensor& x, const Tensor& table,
                              int64_t seq_length, int64_t first_token) {
  CHECK(y.contiguous() && x.contiguous() && table.contiguous());
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype());
  CHECK(table.rank() == 2 && x.dim(-1) == table.dim(1) && x.dtype() == table.dtype());
  CHECK(seq_length > 0 && seq_length <= table.dim(0) && first_token >= 0)
      << seq_length << " positions of " << table.dim(0) << ", first token " << first_token;
  Dispatch(
      "position_embedding", y,
      [&] { cpu::PositionEmbeddingForward(y, x, table, seq_length, first_token); },
      [&] { cuda::PositionEmbeddingForward(y, x, table, seq_length, first_token); });
}

void PositionEmbeddingBackward(MainGrad& table, const Tensor& dy, int64_t seq_length,
                               int64_t first_token) {
  CHECK(dy.contiguous());
  Dispatch(
      "position_embedding", dy,
      [&] { cpu::PositionEmbeddingBackward(table, dy, seq_length, first_token); },
      [&] { cuda::PositionEmbeddingBackward(table, dy, seq_length, first_token); });
}

}  // namespace cairn
