#include "runtime/ops/linear.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "runtime/ops/matmul.h"
#include "runtime/ops/reduce_rows.h"

namespace cairn {
namespace {

// An exact sum takes one fp32 product per sample, a slice of at most this many elements at a time:
// the slice goes from cache to the sum, and needs no memory of the weight's size.
constexpr int64_t kSliceElements = 1 << 20;
constexpr int64_t kSliceRowBlock = 256;

}  // namespace

void AddWeightGradient(MainGrad& grad, const Tensor& dy, const Tensor& x, int64_t rows_per_sample) {
  if (!grad.exact()) {
    Matmul(grad.sum(), dy, x, {.transpose_a = true, .accumulate = true});
    return;
  }
  const int64_t tokens = x.dim(0);
  const int64_t out = dy.dim(1);
  const int64_t in = x.dim(1);
  const int64_t sample_rows = rows_per_sample > 0 ? rows_per_sample : tokens;
  const int64_t slice_rows = std::clamp<int64_t>(kSliceElements / in, 1, out);
  const Tensor slice = Tensor::Empty({slice_rows, in}, DType::kFloat32, x.device());
  for (int64_t token = 0; token < tokens; token += sample_rows) {
    const int64_t count = std::min(sample_rows, tokens - token);
    const Tensor sample_x = x.Narrow(0, token, count);
    const Tensor sample_dy = dy.Narrow(0, token, count);
    for (int64_t row = 0; row < out; row += slice_rows) {
      const int64_t rows = std::min(slice_rows, out - row);
      const Tensor product = slice.Narrow(0, 0, rows);
      Matmul(product, sample_dy.Narrow(1, row, rows), sample_x,
             {.transpose_a = true, .row_block = kSliceRowBlock});
      grad.AddRows(row, product);
    }
  }
}

Value Linear(Tape& tape, const Value& x, Weight& weight, Weight* bias) {
  const int64_t row_block = tape.options().rows_per_sample;
  Tensor y = Tensor::Empty({x.data.dim(0), weight.value.dim(0)}, x.data.dtype(), x.data.device());
  Matmul(y, x.data, weight.Current(), {.transpose_b = true, .row_block = row_block},
         bias != nullptr ? &bias->Current() : nullptr);
  MainGrad* const weight_grad = tape.recording() ? weight.grad : nullptr;
  MainGrad* const bias_grad = tape.recording() && bias != nullptr ? bias->grad : nullptr;
  if (!x.needs_gradient() && weight_grad == nullptr && bias_grad == nullptr) {
    return Value{std::move(y)};
  }
  if (weight_grad != nullptr) weight_grad->NoteUse();
  if (bias_grad != nullptr) bias_grad->NoteUse();
  const Saved saved_x = weight_grad != nullptr ? Saved(x) : Saved();
  return tape.Record(
      "linear", std::move(y), [=, id = x.id, matrix = weight.value](Tape& tape, const Tensor& dy) {
        if (weight_grad != nullptr) {
          tape.DeferWeightGradient([=] {
            AddWeightGradient(*weight_grad, dy, saved_x.Get(), row_block);
            weight_grad->NoteContribution();
          });
        }
        if (bias_grad != nullptr) {
          tape.DeferWeightGradient([=] {
            AddRowsToVector(*bias_grad, dy);
            bias_grad->NoteContribution();
          });
        }
        if (id < 0) return;
        Tensor dx = Tensor::Empty({dy.dim(0), matrix.dim(1)}, dy.dtype(), dy.device());
        Matmul(dx, dy, matrix, {.row_block = row_block});
        tape.AddGradient(id, std::move(dx));
      });
}

}  // namespace cairn
