#pragma once

#include <cstdint>

#include "runtime/autograd/weight.h"
#include "runtime/ops/column_sums.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {

/// The memory of a gradient's sums, as kernels take it.
struct GradTarget : ColumnSums {
  explicit GradTarget(const MainGrad& grad)
      : ColumnSums{grad.exact() ? nullptr : grad.sum().data<float>(),
                   grad.exact() ? grad.hi().data<double>() : nullptr,
                   grad.exact() ? grad.lo().data<double>() : nullptr, grad.factor()} {}

  bool exact() const { return hi != nullptr; }
};

#if defined(__CUDACC__)

/// The body of a kernel for AddColumnSums: `out` of f(row, p[row, column]...) over all rows.
template <bool kExact, typename F, typename... T>
__device__ void SumColumns(const ColumnSums& out, const ColumnSumLaunch& launch, int64_t rows,
                           int64_t n, const F& f, const T*... p) {
  __shared__ ColumnPart<kExact> shared[kColumnLanes<T...>];
  const int64_t tiles = (n + kColumnTile<T...> - 1) / kColumnTile<T...>;
  for (int64_t index = blockIdx.x; index < tiles * launch.slices; index += gridDim.x) {
    SumColumnTile<kExact>(CudaBlock(), shared, out, index, launch, rows, n, f, p...);
  }
}

template <bool kExact, typename T>
__global__ void __launch_bounds__(kTilePacks* kRowLanes)
    AddRowsKernel(float* sum, double* hi, double* lo, double factor, ColumnSumLaunch launch,
                  int64_t rows, int64_t n, const T* x) {
  SumColumns<kExact>(
      {sum, hi, lo, factor}, launch, rows, n,
      [](int64_t, const T& x) { return static_cast<float>(x); }, x);
}

/// A kernel that adds sums down the columns of [rows, n] arrays to a gradient.
template <typename... P>
using ColumnSumKernel = void (*)(float* sum, double* hi, double* lo, double factor,
                                 ColumnSumLaunch launch, int64_t rows, int64_t n, P... inputs);

/// grad [n] += the sums that `exact` or `plain` computes with packs of `width`, in an order that
/// depends on the shape alone.
template <typename... P>
void AddColumnSums(MainGrad& grad, Device& device, int64_t rows, int64_t n, int64_t width,
                   ColumnSumKernel<P...> exact, ColumnSumKernel<P...> plain,
                   std::type_identity_t<P>... inputs) {
  const GradTarget target(grad);
  const ColumnSumLaunch launch = MakeColumnSumLaunch(rows, n, width);
  const auto start = [&](ColumnSumKernel<P...> kernel, float* sum) {
    Launch(device, launch.shape, kernel, sum, target.hi, target.lo, target.factor, launch, rows, n,
           inputs...);
  };
  if (target.exact()) return start(exact, nullptr);
  if (launch.slices <= 1) return start(plain, target.sum);
  const Tensor slices = Tensor::Empty({launch.slices, n}, DType::kFloat32, device);
  start(plain, slices.data<float>());
  const ColumnSumLaunch whole = MakeWholeColumnSumLaunch(launch.slices, n, kPackWidth<float>);
  Launch(device, whole.shape, AddRowsKernel<false, float>, target.sum, nullptr, nullptr, 1.0, whole,
         launch.slices, n, slices.data<float>());
}

#endif

}  // namespace cairn::cuda
