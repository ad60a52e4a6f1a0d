#include "runtime/ops/reduce_rows_cpu.h"

#include "runtime/ops/team.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn::cpu {
namespace {

template <typename T>
CAIRN_CPU_KERNEL void AccumulateRange(float* sum, const T* x, int64_t n) {
  CAIRN_INDEPENDENT_ITERATIONS
  for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<float>(x[i]);
}

template <typename T>
CAIRN_CPU_KERNEL void DepositRange(double* hi, double* lo, const T* x, int64_t n, double factor) {
  CAIRN_INDEPENDENT_ITERATIONS
  for (int64_t i = 0; i < n; ++i) {
    const double term = static_cast<double>(static_cast<float>(x[i])) * factor;
    const double upper = RoundToQuantum(term, kExactHiQuantum);
    hi[i] += upper;
    lo[i] += RoundToQuantum(term - upper, kExactLoQuantum);
  }
}

template <typename T>
void DepositTo(const GradTarget& target, int64_t offset, const T* x, int64_t n) {
  if (target.hi != nullptr) {
    DepositRange(target.hi + offset, target.lo + offset, x, n, target.factor);
  } else {
    AccumulateRange(target.sum + offset, x, n);
  }
}

}  // namespace

GradTarget::GradTarget(const MainGrad& grad) : factor(grad.factor()) {
  if (grad.exact()) {
    hi = grad.hi().data<double>();
    lo = grad.lo().data<double>();
    numel = grad.hi().numel();
  } else {
    sum = grad.sum().data<float>();
    numel = grad.sum().numel();
  }
}

void Accumulate(float* sum, const float* x, int64_t n) { AccumulateRange(sum, x, n); }
void Accumulate(float* sum, const BFloat16* x, int64_t n) { AccumulateRange(sum, x, n); }
void Accumulate(float* sum, const Float16* x, int64_t n) { AccumulateRange(sum, x, n); }

void Deposit(const GradTarget& target, int64_t offset, const float* x, int64_t n) {
  DepositTo(target, offset, x, n);
}
void Deposit(const GradTarget& target, int64_t offset, const BFloat16* x, int64_t n) {
  DepositTo(target, offset, x, n);
}
void Deposit(const GradTarget& target, int64_t offset, const Float16* x, int64_t n) {
  DepositTo(target, offset, x, n);
}

}  // namespace cairn::cpu
