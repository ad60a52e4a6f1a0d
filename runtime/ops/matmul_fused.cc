#include "runtime/ops/matmul_fused.h"

#include <glog/logging.h>

#include <utility>

#include "runtime/ops/gelu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/matmul_choice.h"
#include "runtime/ops/reduce_rows.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {
namespace {

// Runs `on_cuda` where the result is a GPU's: true if that had a kernel for all of it.
template <typename OnCuda>
bool Fused(const char* op, const Tensor& result, OnCuda&& on_cuda) {
  bool done = false;
  if (result.device().kind() == DeviceKind::kCuda) {
    Dispatch(
        op, result, [] {}, [&] { done = std::forward<OnCuda>(on_cuda)(); });
  }
  return done;
}

}  // namespace

void MatmulGelu(const Tensor& y, const Tensor& hidden, const Tensor& a, const Tensor& b,
                const MatmulOptions& options, const Tensor* bias) {
  CheckProduct(y, a, b, options, bias);
  CHECK(y.contiguous() && y.shape() == hidden.shape() && y.dtype() == hidden.dtype());
  if (MayFuse(a, hidden, options) &&
      Fused("MatmulGelu", y, [&] { return cuda::MatmulGelu(y, hidden, a, b, options, bias); })) {
    return;
  }
  Matmul(hidden, a, b, options, bias);
  GeluForward(y, hidden);
}

void MatmulGeluGradient(const Tensor& dhidden, const Tensor& a, const Tensor& b,
                        const Tensor& hidden, const MatmulOptions& options) {
  CheckProduct(dhidden, a, b, options, nullptr);
  CHECK(dhidden.shape() == hidden.shape() && dhidden.dtype() == hidden.dtype());
  if (MayFuse(a, hidden, options) && Fused("MatmulGeluGradient", dhidden, [&] {
        return cuda::MatmulGeluGradient(dhidden, a, b, hidden, options);
      })) {
    return;
  }
  Matmul(dhidden, a, b, options);
  GeluBackward(dhidden, dhidden, hidden);
}

void AddLinearGradients(MainGrad& weight, MainGrad& bias, const Tensor& dy, const Tensor& x) {
  const MatmulOptions options{.transpose_a = true, .accumulate = true};
  CheckProduct(weight.sum(), dy, x, options, nullptr);
  CHECK_EQ(bias.sum().numel(), dy.dim(1));
  if (MayFuse(dy, bias.sum(), options) && Fused("AddLinearGradients", dy, [&] {
        return cuda::AddLinearGradients(weight.sum(), bias.sum(), dy, x);
      })) {
    return;
  }
  Matmul(weight.sum(), dy, x, options);
  AddRowsToVector(bias, dy);
}

}  // namespace cairn
