#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/autograd/weight.h"
#include "runtime/base/cpu_kernel.h"
#include "runtime/tensor/dtype.h"

namespace cairn::cpu {

/// The memory of a gradient sum: `sum`, or the windows `hi` and `lo` of an exact one.
struct GradTarget {
  explicit GradTarget(const MainGrad& grad);

  float* sum = nullptr;
  double* hi = nullptr;
  double* lo = nullptr;
  double factor = 1.0;
  int64_t numel = 0;
};

/// sum[i] += x[i] for i in [0, n).
void Accumulate(float* sum, const float* x, int64_t n);
void Accumulate(float* sum, const BFloat16* x, int64_t n);
void Accumulate(float* sum, const Float16* x, int64_t n);

/// Adds x[0, n) to the elements of `target` from `offset` on.
void Deposit(const GradTarget& target, int64_t offset, const float* x, int64_t n);
void Deposit(const GradTarget& target, int64_t offset, const BFloat16* x, int64_t n);
void Deposit(const GradTarget& target, int64_t offset, const Float16* x, int64_t n);

/// Adds the contributions of `rows` rows to a gradient vector [n]. `contribution(row, column,
/// count, scratch)` returns a pointer to what the row adds to the columns [column, column + count);
/// it may compute it into `scratch`, which has room for `count`. Threads take columns, so that each
/// element sees the rows in one order.
template <typename Contribution>
void AddRowContributions(const GradTarget& target, int64_t rows, int64_t n,
                         Contribution&& contribution) {
  constexpr int64_t kSegment = 2048;  // columns whose partial sums stay in the first-level cache
  constexpr int64_t kRowBlock = 64;   // rows summed before they meet the total: less rounding
  const int64_t grain = std::max<int64_t>(64, (1 << 14) / std::max<int64_t>(rows, 1));
  ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float scratch[kSegment];
    alignas(64) float partial[kSegment];
    for (int64_t column = begin; column < end; column += kSegment) {
      const int64_t count = std::min(kSegment, end - column);
      if (target.hi != nullptr) {
        for (int64_t row = 0; row < rows; ++row) {
          Deposit(target, column, contribution(row, column, count, scratch), count);
        }
        continue;
      }
      for (int64_t first = 0; first < rows; first += kRowBlock) {
        std::fill_n(partial, count, 0.0f);
        for (int64_t row = first; row < std::min(rows, first + kRowBlock); ++row) {
          Accumulate(partial, contribution(row, column, count, scratch), count);
        }
        Accumulate(target.sum + column, partial, count);
      }
    }
  });
}

}  // namespace cairn::cpu
