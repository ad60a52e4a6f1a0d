#pragma once

#include <cstdint>

#include "runtime/autograd/weight.h"
#include "runtime/tensor/exact_sum.h"
#include "runtime/tensor/launch_shape.h"

namespace cairn::cuda {

/// The memory of a gradient sum: `sum`, or the windows `hi` and `lo` of an exact one.
struct GradTarget {
  explicit GradTarget(const MainGrad& grad)
      : sum(grad.exact() ? nullptr : grad.sum().data<float>()),
        hi(grad.exact() ? grad.hi().data<double>() : nullptr),
        lo(grad.exact() ? grad.lo().data<double>() : nullptr),
        factor(grad.factor()) {}

  bool exact() const { return hi != nullptr; }

  float* sum;
  double* hi;
  double* lo;
  double factor;
};

#if defined(__CUDACC__)

/// sum [n] (or, kExact, its windows) += term(row, column) over all rows, in an order that depends
/// on the number of rows alone. For a launch by ColumnLaunch(n).
template <bool kExact, typename Term>
__device__ void AddColumnSums(float* sum, double* hi, double* lo, double factor, int64_t rows,
                              int64_t n, Term term) {
  constexpr int64_t kRowBlock = 64;  // rows summed before they meet the total: less rounding
  using Part = std::conditional_t<kExact, double, float>;
  __shared__ Part highs[kRowLanes][kColumnsPerBlock];
  __shared__ Part lows[kRowLanes][kColumnsPerBlock];
  const unsigned lane = threadIdx.x / kColumnsPerBlock;
  const unsigned place = threadIdx.x % kColumnsPerBlock;
  for (int64_t first = int64_t{blockIdx.x} * kColumnsPerBlock; first < n;
       first += int64_t{gridDim.x} * kColumnsPerBlock) {
    const int64_t column = first + place;
    Part high = 0;
    Part low = 0;
    for (int64_t begin = lane; column < n && begin < rows; begin += kRowLanes * kRowBlock) {
      Part partial = 0;
      for (int64_t i = 0; i < kRowBlock; ++i) {
        const int64_t row = begin + i * kRowLanes;
        if (row >= rows) break;
        if constexpr (kExact) {
          const ExactParts parts = SplitExactly(term(row, column), factor);
          high += parts.hi;
          low += parts.lo;
        } else {
          partial += term(row, column);
        }
      }
      if constexpr (!kExact) high += partial;
    }
    highs[lane][place] = high;
    lows[lane][place] = low;
    __syncthreads();
    if (lane == 0 && column < n) {
      for (unsigned other = 1; other < kRowLanes; ++other) {
        high += highs[other][place];
        low += lows[other][place];
      }
      if constexpr (kExact) {
        hi[column] += high;
        lo[column] += low;
      } else {
        sum[column] += high;
      }
    }
    __syncthreads();
  }
}

#endif

}  // namespace cairn::cuda
