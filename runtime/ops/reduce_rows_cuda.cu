#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/reduce_rows_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

template <bool kExact, typename T>
__global__ void AddRowsKernel(float* sum, double* hi, double* lo, double factor, const T* x,
                              int64_t rows, int64_t n) {
  AddColumnSums<kExact>(sum, hi, lo, factor, rows, n, [=](int64_t row, int64_t column) {
    return static_cast<float>(x[row * n + column]);
  });
}

}  // namespace

void AddRowsToVector(MainGrad& grad, const Tensor& rows) {
  DispatchFloating("AddRowsToVector", rows.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = rows.dim(-1);
    const GradTarget target(grad);
    auto* const kernel = target.exact() ? AddRowsKernel<true, T> : AddRowsKernel<false, T>;
    Launch(rows.device(), ColumnLaunch(n), kernel, target.sum, target.hi, target.lo, target.factor,
           rows.data<T>(), rows.numel() / n, n);
  });
}

}  // namespace cairn::cuda
