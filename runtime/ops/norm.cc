#include "runtime/ops/norm.h"

#include <glog/logging.h>

#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/norm_cpu.h"
#include "runtime/ops/reduce_rows.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

Value LayerNorm(Tape& tape, const Value& x, Weight& gamma, Weight& beta, double epsilon) {
  const Shape rows{x.data.numel() / x.data.dim(-1)};
  Tensor y = x.data.EmptyLike();
  Tensor mean = Tensor::Empty(rows, DType::kFloat32, x.data.device());
  Tensor rstd = mean.EmptyLike();
  LayerNormForward(y, mean, rstd, x.data, gamma.Current(), beta.Current(), epsilon);
  MainGrad* const gamma_grad = tape.recording() ? gamma.grad : nullptr;
  MainGrad* const beta_grad = tape.recording() ? beta.grad : nullptr;
  if (!x.needs_gradient() && gamma_grad == nullptr && beta_grad == nullptr) {
    return Value{std::move(y)};
  }
  if (gamma_grad != nullptr) gamma_grad->NoteUse();
  if (beta_grad != nullptr) beta_grad->NoteUse();
  Value value =
      tape.Record("layer_norm", std::move(y),
                  [=, id = x.id, x = x.data, scale = gamma.value](Tape& tape, const Tensor& dy) {
                    if (gamma_grad != nullptr) {
                      tape.DeferWeightGradient([=] {
                        LayerNormBackwardGamma(*gamma_grad, dy, x, mean, rstd);
                        gamma_grad->NoteContribution();
                      });
                    }
                    if (beta_grad != nullptr) {
                      tape.DeferWeightGradient([=] {
                        AddRowsToVector(*beta_grad, dy);
                        beta_grad->NoteContribution();
                      });
                    }
                    if (id < 0) return;
                    Tensor dx = x.EmptyLike();
                    LayerNormBackwardInput(dx, dy, x, scale, mean, rstd);
                    tape.AddGradient(id, std::move(dx));
                  });
  value.again = [x = x.data, scale = gamma.value, shift = beta.value, epsilon, rows] {
    Tensor y = x.EmptyLike();
    const Tensor mean = Tensor::Empty(rows, DType::kFloat32, x.device());
    LayerNormForward(y, mean, mean.EmptyLike(), x, scale, shift, epsilon);
    return y;
  };
  return value;
}

void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon) {
  CHECK(y.contiguous() && x.contiguous() && gamma.contiguous() && beta.contiguous());
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype());
  CHECK(gamma.numel() == x.dim(-1) && beta.numel() == x.dim(-1));
  CHECK(gamma.dtype() == x.dtype() && beta.dtype() == x.dtype());
  Dispatch(
      "layer_norm", x, [&] { cpu::LayerNormForward(y, mean, rstd, x, gamma, beta, epsilon); },
      [&] { cuda::LayerNormForward(y, mean, rstd, x, gamma, beta, epsilon); });
}

void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd) {
  CHECK(dx.contiguous() && dy.contiguous() && x.contiguous());
  CHECK(dx.numel() == x.numel() && dy.numel() == x.numel());
  CHECK(dx.dtype() == x.dtype() && dy.dtype() == x.dtype());
  Dispatch(
      "layer_norm", x, [&] { cpu::LayerNormBackwardInput(dx, dy, x, gamma, mean, rstd); },
      [&] { cuda::LayerNormBackwardInput(dx, dy, x, gamma, mean, rstd); });
}

void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd) {
  CHECK(dy.contiguous() && x.contiguous());
  CHECK(dy.numel() == x.numel() && dy.dtype() == x.dtype());
  Dispatch(
      "layer_norm", x, [&] { cpu::LayerNormBackwardGamma(gamma, dy, x, mean, rstd); },
      [&] { cuda::LayerNormBackwardGamma(gamma, dy, x, mean, rstd); });
}

}  // namespace cairn
