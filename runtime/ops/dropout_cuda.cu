#include "runtime/ops/dropout_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/replayed_key_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

// One block a row, so that the bias needs no division to be found.
template <bool kBias, bool kResidual, typename T>
__global__ void BiasDropoutAddKernel(T* y, const T* x, const T* bias, const T* residual,
                                     int64_t rows, int64_t n, DropoutRule rule, RandomKey key,
                                     const uint32_t* step, int64_t first_index) {
  key = KeyOfStep(key, step);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t at = row * n;
    // Nothing is below a threshold of 0: any words will do.
    const NeighbourWords word(key, static_cast<uint64_t>(first_index + at), rule.threshold > 0);
    BiasDropoutAddRow<kBias, kResidual>(BlockTeam(), n, y + at, x + at, bias,
                                        kResidual ? residual + at : nullptr, rule, word);
  }
}

}  // namespace

void BiasDropoutAddForward(const Tensor& y, const Tensor& x, const Tensor* bias,
                           const Tensor* residual, const DropoutSpec& spec) {
  const DropoutRule rule{DropThreshold(spec.p), static_cast<float>(1.0 / (1.0 - spec.p))};
  const int64_t n = x.dim(-1);
  const int64_t rows = x.numel() / n;
  DispatchFloating("dropout", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* const b = bias != nullptr ? bias->data<T>() : nullptr;
    const T* const r = residual != nullptr ? residual->data<T>() : nullptr;
    auto* const kernel = b != nullptr ? (r != nullptr ? BiasDropoutAddKernel<true, true, T>
                                                      : BiasDropoutAddKernel<true, false, T>)
                                      : (r != nullptr ? BiasDropoutAddKernel<false, true, T>
                                                      : BiasDropoutAddKernel<false, false, T>);
    Launch(x.device(), RowLaunch(rows, n), kernel, y.data<T>(), x.data<T>(), b, r, rows, n, rule,
           spec.key, AsCuda(x.device()).replayed_step(), spec.first_index);
  });
}

}  // namespace cairn::cuda
