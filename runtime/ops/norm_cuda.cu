#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/norm_kernel.h"
#include "runtime/ops/reduce_rows_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

template <typename T>
__global__ void LayerNormKernel(T* y, float* mean, float* rstd, const T* x, const T* gamma,
                                const T* beta, int64_t rows, int64_t n, float epsilon) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const RowMoments moments =
        LayerNormRow(BlockTeam(), n, y + row * n, x + row * n, gamma, beta, epsilon);
    if (threadIdx.x == 0) {
      mean[row] = moments.mean;
      rstd[row] = moments.rstd;
    }
  }
}

template <typename T>
__global__ void LayerNormGradientKernel(T* dx, const T* dy, const T* x, const T* gamma,
                                        const float* mean, const float* rstd, int64_t rows,
                                        int64_t n) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    LayerNormGradientRow(BlockTeam(), n, dx + row * n, dy + row * n, x + row * n, gamma,
                         RowMoments{mean[row], rstd[row]});
  }
}

template <bool kExact, typename T>
__global__ void LayerNormGammaKernel(float* sum, double* hi, double* lo, double factor, const T* dy,
                                     const T* x, const float* mean, const float* rstd, int64_t rows,
                                     int64_t n) {
  AddColumnSums<kExact>(sum, hi, lo, factor, rows, n, [=](int64_t row, int64_t column) {
    return LayerNormGammaTerm(dy[row * n + column], x[row * n + column],
                              RowMoments{mean[row], rstd[row]});
  });
}

}  // namespace

void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(x.device(), RowLaunch(mean.numel(), x.dim(-1)), LayerNormKernel<T>, y.data<T>(),
           mean.data<float>(), rstd.data<float>(), x.data<T>(), gamma.data<T>(), beta.data<T>(),
           mean.numel(), x.dim(-1), static_cast<float>(epsilon));
  });
}

void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(x.device(), RowLaunch(mean.numel(), x.dim(-1)), LayerNormGradientKernel<T>, dx.data<T>(),
           dy.data<T>(), x.data<T>(), gamma.data<T>(), mean.data<float>(), rstd.data<float>(),
           mean.numel(), x.dim(-1));
  });
}

void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const GradTarget target(gamma);
    auto* const kernel =
        target.exact() ? LayerNormGammaKernel<true, T> : LayerNormGammaKernel<false, T>;
    Launch(x.device(), ColumnLaunch(x.dim(-1)), kernel, target.sum, target.hi, target.lo,
           target.factor, dy.data<T>(), x.data<T>(), mean.data<float>(), rstd.data<float>(),
           mean.numel(), x.dim(-1));
  });
}

}  // namespace cairn::cuda
