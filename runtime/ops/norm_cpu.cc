#include "runtime/ops/norm_cpu.h"

#include <glog/logging.h>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/norm_kernel.h"
#include "runtime/ops/reduce_rows_cpu.h"

namespace cairn::cpu {
namespace {

template <typename T>
struct ForwardRows {
  T* y;
  float* mean;
  float* rstd;
  const T* x;
  const T* gamma;
  const T* beta;
  int64_t n;
  float epsilon;
};

template <typename T>
CAIRN_CPU_KERNEL void Forward(const ForwardRows<T>& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const RowMoments moments =
        LayerNormRow(CpuTeam(), a.n, a.y + row * a.n, a.x + row * a.n, a.gamma, a.beta, a.epsilon);
    a.mean[row] = moments.mean;
    a.rstd[row] = moments.rstd;
  }
}

template <typename T>
struct BackwardRows {
  T* dx;
  const T* dy;
  const T* x;
  const T* gamma;
  const float* mean;
  const float* rstd;
  int64_t n;
};

template <typename T>
CAIRN_CPU_KERNEL void Backward(const BackwardRows<T>& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    LayerNormGradientRow(CpuTeam(), a.n, a.dx + row * a.n, a.dy + row * a.n, a.x + row * a.n,
                         a.gamma, RowMoments{a.mean[row], a.rstd[row]});
  }
}

template <typename T>
CAIRN_CPU_KERNEL void GammaSegment(float* out, const T* dy, const T* x, RowMoments moments,
                                   int64_t n) {
  LayerNormGammaRow(CpuTeam(), n, out, dy, x, moments);
}

}  // namespace

void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const ForwardRows<T> rows{
        y.data<T>(),     mean.data<float>(), rstd.data<float>(), x.data<T>(),
        gamma.data<T>(), beta.data<T>(),     x.dim(-1),          static_cast<float>(epsilon)};
    ParallelFor(mean.numel(), RowGrain(rows.n),
                [&](int64_t begin, int64_t end) { Forward(rows, begin, end); });
  });
}

void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const BackwardRows<T> rows{dx.data<T>(),       dy.data<T>(),       x.data<T>(), gamma.data<T>(),
                               mean.data<float>(), rstd.data<float>(), x.dim(-1)};
    ParallelFor(mean.numel(), RowGrain(rows.n),
                [&](int64_t begin, int64_t end) { Backward(rows, begin, end); });
  });
}

void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd) {
  DispatchFloating("layer_norm", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.dim(-1);
    const GradTarget target(gamma);
    CHECK_EQ(target.numel, n);
    AddRowContributions(
        target, mean.numel(), n,
        [n, dy = dy.data<T>(), x = x.data<T>(), mean = mean.data<float>(),
         rstd = rstd.data<float>()](int64_t row, int64_t column, int64_t count, float* scratch) {
          const int64_t at = row * n + column;
          GammaSegment(scratch, dy + at, x + at, RowMoments{mean[row], rstd[row]}, count);
          return scratch;
        });
  });
}

}  // namespace cairn::cpu
