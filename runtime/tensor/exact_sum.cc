#include "runtime/tensor/exact_sum.h"

#include <glog/logging.h>

#include "runtime/base/cpu_kernel.h"
#include "runtime/tensor/dispatch.h"
#include "runtime/tensor/elementwise_cuda.h"

namespace cairn {
namespace {

constexpr int64_t kGrain = 1 << 14;

template <typename T>
CAIRN_CPU_KERNEL void AddRange(double* hi, double* lo, const T* term, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) {
    const ExactParts parts = SplitExactly(static_cast<float>(term[i]), factor);
    hi[i] += parts.hi;
    lo[i] += parts.lo;
  }
}

CAIRN_CPU_KERNEL void ToFloatRange(float* sum, const double* hi, const double* lo, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<float>(hi[i] + lo[i]);
}

}  // namespace

void ExactAddTo(const Tensor& hi, const Tensor& lo, const Tensor& term, double factor) {
  CHECK(hi.contiguous() && lo.contiguous() && term.contiguous());
  CHECK(hi.numel() == term.numel() && lo.numel() == term.numel());
  Dispatch(
      "ExactAddTo", hi,
      [&] {
        DispatchFloating("ExactAddTo", term.dtype(), [&](auto zero) {
          using T = decltype(zero);
          ParallelFor(term.numel(), kGrain, [&](int64_t begin, int64_t end) {
            AddRange(hi.data<double>() + begin, lo.data<double>() + begin, term.data<T>() + begin,
                     end - begin, factor);
          });
        });
      },
      [&] { cuda::ExactAddTo(hi, lo, term, factor); });
}

void ExactToFloat(const Tensor& sum, const Tensor& hi, const Tensor& lo) {
  CHECK(sum.numel() == hi.numel() && sum.numel() == lo.numel());
  Dispatch(
      "ExactToFloat", sum,
      [&] {
        ParallelFor(sum.numel(), kGrain, [&](int64_t begin, int64_t end) {
          ToFloatRange(sum.data<float>() + begin, hi.data<double>() + begin,
                       lo.data<double>() + begin, end - begin);
        });
      },
      [&] { cuda::ExactToFloat(sum, hi, lo); });
}

}  // namespace cairn
