#include "runtime/ops/gelu_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

template <typename T>
__global__ void GeluKernel(T* y, const T* x, int64_t n) {
  GeluRow(GridTeam(), n, y, x);
}

template <typename T>
__global__ void GeluGradientKernel(T* dx, const T* dy, const T* x, int64_t n) {
  GeluGradientRow(GridTeam(), n, dx, dy, x);
}

}  // namespace

void GeluForward(const Tensor& y, const Tensor& x) {
  DispatchFloating("gelu", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(x.device(), PackLaunch(x.numel()), GeluKernel<T>, y.data<T>(), x.data<T>(), x.numel());
  });
}

void GeluBackward(const Tensor& dx, const Tensor& dy, const Tensor& x) {
  DispatchFloating("gelu", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(x.device(), PackLaunch(x.numel()), GeluGradientKernel<T>, dx.data<T>(), dy.data<T>(),
           x.data<T>(), x.numel());
  });
}

}  // namespace cairn::cuda
