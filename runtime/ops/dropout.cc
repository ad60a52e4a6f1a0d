#include "runtime/ops/dropout.h"

#include <glog/logging.h>

#include "runtime/ops/dropout_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/reduce_rows.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

Value BiasDropoutAdd(Tape& tape, const Value& x, Weight* bias, const Value* residual,
                     const DropoutSpec& spec) {
  Tensor y = x.data.EmptyLike();
  BiasDropoutAddForward(y, x.data, bias != nullptr ? &bias->Current() : nullptr,
                        residual != nullptr ? &residual->data : nullptr, spec);
  MainGrad* const grad = bias != nullptr && tape.recording() ? bias->grad : nullptr;
  const int x_id = x.id;
  const int residual_id = residual != nullptr ? residual->id : -1;
  if (x_id < 0 && residual_id < 0 && grad == nullptr) return Value{std::move(y)};
  if (grad != nullptr) grad->NoteUse();
  return tape.Record("bias_dropout_add", std::move(y), [=](Tape& tape, const Tensor& dy) {
    tape.AddGradient(residual_id, dy);
    if (x_id < 0 && grad == nullptr) return;
    Tensor dx = dy;
    if (spec.p > 0) {
      dx = dy.EmptyLike();
      DropoutBackward(dx, dy, spec);
    }
    if (grad != nullptr) {
      // Holds dx and not dy: the op that made x keeps dx for its own weight gradient anyway.
      tape.DeferWeightGradient([grad, dx] {
        AddRowsToVector(*grad, dx);
        grad->NoteContribution();
      });
    }
    tape.AddGradient(x_id, std::move(dx));
  });
}

void BiasDropoutAddForward(const Tensor& y, const Tensor& x, const Tensor* bias,
                           const Tensor* residual, const DropoutSpec& spec) {
  CHECK(spec.p >= 0 && spec.p < 1) << spec.p;
  CHECK(y.contiguous() && x.contiguous());
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype());
  if (bias != nullptr) {
    CHECK(bias->contiguous() && bias->numel() == x.dim(-1) && bias->dtype() == x.dtype());
  }
  if (residual != nullptr) {
    CHECK(residual->contiguous() && residual->numel() == x.numel());
    CHECK(residual->dtype() == x.dtype());
  }
  Dispatch(
      "dropout", x, [&] { cpu::BiasDropoutAddForward(y, x, bias, residual, spec); },
      [&] { cuda::BiasDropoutAddForward(y, x, bias, residual, spec); });
}

void DropoutBackward(const Tensor& dx, const Tensor& dy, const DropoutSpec& spec) {
  BiasDropoutAddForward(dx, dy, nullptr, nullptr, spec);
}

}  // namespace cairn
