#include <algorithm>

#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/norm_kernel.h"
#include "runtime/ops/reduce_rows_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

template <int kPacks, typename T>
__global__ void __launch_bounds__(kMaxBlockThreads)
    LayerNormKernel(T* y, float* mean, float* rstd, const T* x, const T* gamma, const T* beta,
                    int64_t rows, int64_t n, float epsilon) {
  const RowTeam<CudaBlock, kPacks> team;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const RowMoments moments =
        LayerNormRow(team, n, y + row * n, x + row * n, gamma, beta, epsilon);
    if (threadIdx.x == 0) {
      mean[row] = moments.mean;
      rstd[row] = moments.rstd;
    }
  }
}

template <int kPacks, typename T>
__global__ void __launch_bounds__(kMaxBlockThreads)
    LayerNormGradientKernel(T* dx, const T* dy, const T* x, const T* gamma, const float* mean,
                            const float* rstd, int64_t rows, int64_t n) {
  const RowTeam<CudaBlock, kPacks> team;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    LayerNormGradientRow(team, n, dx + row * n, dy + row * n, x + row * n, gamma,
                         RowMoments{mean[row], rstd[row]});
  }
}

template <bool kExact, typename T>
__global__ void __launch_bounds__(kTilePacks* kRowLanes)
    LayerNormGammaKernel(float* sum, double* hi, double* lo, double factor, ColumnSumLaunch launch,
                         int64_t rows, int64_t n, const T* dy, const T* x, const float* mean,
                         const float* rstd) {
  SumColumns<kExact>(
      {sum, hi, lo, factor}, launch, rows, n,
      [=](int64_t row, const T& dy, const T& x) {
        return LayerNormGammaTerm(dy, x, RowMoments{mean[row], rstd[row]});
      },
      dy, x);
}

// Packs to hold of rows of n elements that follow each other in `arrays`.
template <typename... T>
int64_t PacksOfRows(const LaunchShape& shape, int64_t n, const T*... arrays) {
  constexpr int64_t kBytes = std::max({sizeof(T)...});
  return PacksToHold(
      shape, n, kBytes,
      (reinterpret_cast<uintptr_t>(arrays) | ...) | static_cast<uintptr_t>(n) * kBytes);
}

}  // namespace

void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.dim(-1);
    const LaunchShape shape = RowLaunch(mean.numel(), n);
    const int64_t held =
        PacksOfRows(shape, n, y.data<T>(), x.data<T>(), gamma.data<T>(), beta.data<T>());
    DispatchPacks<1, 2, 4>(held, [&](auto packs) {
      Launch(x.device(), shape, LayerNormKernel<packs(), T>, y.data<T>(), mean.data<float>(),
             rstd.data<float>(), x.data<T>(), gamma.data<T>(), beta.data<T>(), mean.numel(), n,
             static_cast<float>(epsilon));
    });
  });
}

void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.dim(-1);
    const LaunchShape shape = RowLaunch(mean.numel(), n);
    const int64_t held =
        PacksOfRows(shape, n, dx.data<T>(), dy.data<T>(), x.data<T>(), gamma.data<T>());
    // Two rows: more of them do not fit the registers of a block of 1024 threads.
    DispatchPacks<1, 2>(held, [&](auto packs) {
      Launch(x.device(), shape, LayerNormGradientKernel<packs(), T>, dx.data<T>(), dy.data<T>(),
             x.data<T>(), gamma.data<T>(), mean.data<float>(), rstd.data<float>(), mean.numel(), n);
    });
  });
}

void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    AddColumnSums(gamma, x.device(), mean.numel(), x.dim(-1), kPackWidth<T>,
                  LayerNormGammaKernel<true, T>, LayerNormGammaKernel<false, T>, dy.data<T>(),
                  x.data<T>(), mean.data<float>(), rstd.data<float>());
  });
}

}  // namespace cairn::cuda
