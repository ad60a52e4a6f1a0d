#include "runtime/ops/linear.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "runtime/ops/matmul.h"
#include "runtime/ops/matmul_fused.h"
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

namespace {

// The gradients that a product's backward pass is to add to; one that nobody wants is null.
struct WantedGrads {
  WantedGrads(const Tape& tape, const Weight& weight, const Weight* bias)
      : weight(tape.recording() ? weight.grad : nullptr),
        bias(tape.recording() && bias != nullptr ? bias->grad : nullptr) {}

  MainGrad* weight;
  MainGrad* bias;
};

// The deferred part of the backward pass.
void DeferGradients(Tape& tape, const WantedGrads& wanted, const Tensor& dy, const Saved& x) {
  if (wanted.weight == nullptr && wanted.bias == nullptr) return;
  tape.DeferWeightGradient([=, rows_per_sample = tape.options().rows_per_sample] {
    const auto& [weight, bias] = wanted;
    if (weight != nullptr && bias != nullptr && !weight->exact()) {
      AddLinearGradients(*weight, *bias, dy, x.Get());
    } else {
      if (weight != nullptr) AddWeightGradient(*weight, dy, x.Get(), rows_per_sample);
      if (bias != nullptr) AddRowsToVector(*bias, dy);
    }
    if (weight != nullptr) weight->NoteContribution();
    if (bias != nullptr) bias->NoteContribution();
  });
}

// y = x·Wᵀ + bias, computed already, as a node of the tape with this backward pass.
Value Record(Tape& tape, const Value& x, Tensor y, const WantedGrads& wanted,
             Tape::BackwardInputFn backward) {
  if (!x.needs_gradient() && wanted.weight == nullptr && wanted.bias == nullptr) {
    return Value{std::move(y)};
  }
  if (wanted.weight != nullptr) wanted.weight->NoteUse();
  if (wanted.bias != nullptr) wanted.bias->NoteUse();
  return tape.Record("linear", std::move(y), std::move(backward));
}

MatmulOptions ForwardOptions(const Tape& tape) {
  return {.transpose_b = true, .row_block = tape.options().rows_per_sample};
}

const Tensor* ValueOf(const Weight* bias) { return bias != nullptr ? &bias->Current() : nullptr; }

// Of the forward result's shape.
Tensor EmptyOutput(const Tensor& x, const Weight& weight) {
  return Tensor::Empty({x.dim(0), weight.value.dim(0)}, x.dtype(), x.device());
}

// Of the shape of the input's gradient.
Tensor EmptyInput(const Tensor& dy, const Tensor& matrix) {
  return Tensor::Empty({dy.dim(0), matrix.dim(1)}, dy.dtype(), dy.device());
}

// The product's y for an x that is a value of its own.
Value RecordProduct(Tape& tape, const Value& x, Tensor y, Weight& weight, Weight* bias) {
  const WantedGrads wanted(tape, weight, bias);
  const Saved saved_x = wanted.weight != nullptr ? Saved(x) : Saved();
  return Record(tape, x, std::move(y), wanted,
                [=, id = x.id, matrix = weight.value](Tape& tape, const Tensor& dy) {
                  DeferGradients(tape, wanted, dy, saved_x);
                  if (id < 0) return;
                  Tensor dx = EmptyInput(dy, matrix);
                  Matmul(dx, dy, matrix, {.row_block = tape.options().rows_per_sample});
                  tape.AddGradient(id, std::move(dx));
                });
}

}  // namespace

Value Linear(Tape& tape, const Value& x, Weight& weight, Weight* bias) {
  Tensor y = EmptyOutput(x.data, weight);
  Matmul(y, x.data, weight.Current(), ForwardOptions(tape), ValueOf(bias));
  return RecordProduct(tape, x, std::move(y), weight, bias);
}

Activated LinearGelu(Tape& tape, const Value& x, Weight& weight, Weight* bias) {
  Tensor hidden = EmptyOutput(x.data, weight);
  Tensor y = hidden.EmptyLike();
  MatmulGelu(y, hidden, x.data, weight.Current(), ForwardOptions(tape), ValueOf(bias));
  Activated activated;
  activated.before = RecordProduct(tape, x, std::move(hidden), weight, bias);
  if (!tape.options().keep_gelu_inputs && activated.before.needs_gradient()) {
    activated.before.again = [saved_x = Saved(x), &weight, bias, options = ForwardOptions(tape)] {
      const Tensor x = saved_x.Get();
      Tensor hidden = EmptyOutput(x, weight);
      Matmul(hidden, x, weight.value, options, bias != nullptr ? &bias->value : nullptr);
      return hidden;
    };
  }
  activated.after = RecordGelu(tape, activated.before, std::move(y));
  return activated;
}

Value Linear(Tape& tape, const Activated& x, Weight& weight, Weight* bias) {
  Tensor y = EmptyOutput(x.after.data, weight);
  Matmul(y, x.after.data, weight.Current(), ForwardOptions(tape), ValueOf(bias));
  const WantedGrads wanted(tape, weight, bias);
  return Record(tape, x.after, std::move(y), wanted,
                [=, saved = Saved(x.before), id = x.before.id, matrix = weight.value](
                    Tape& tape, const Tensor& dy) {
                  // Once for both gradients: it may be a product.
                  const Tensor hidden = saved.Get();
                  DeferGradients(tape, wanted, dy, Saved([hidden] { return Gelu(hidden); }));
                  if (id < 0) return;
                  Tensor dhidden = EmptyInput(dy, matrix);
                  MatmulGeluGradient(dhidden, dy, matrix, hidden,
                                     {.row_block = tape.options().rows_per_sample});
                  tape.AddGradient(id, std::move(dhidden));
                });
}

}  // namespace cairn
