#include "runtime/ops/reduce.h"

#include <glog/logging.h>

#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/reduce_cpu.h"
#include "runtime/tensor/dispatch.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {
namespace {

void AddPowers(const char* op, const Tensor& total, const Tensor& x, Power power) {
  CHECK(x.contiguous());
  CHECK_EQ(total.numel(), 1);
  Dispatch(
      op, x, [&] { cpu::AddSum(total, x, power); }, [&] { cuda::AddSum(total, x, power); });
}

void AddExactPowers(const char* op, const Tensor& bins, const Tensor& x, Power power) {
  CHECK(x.contiguous() && bins.contiguous());
  CHECK_EQ(bins.numel(), ExactScalar::kBins);
  Dispatch(
      op, x, [&] { cpu::AddExactSum(bins, x, power); }, [&] { cuda::AddExactSum(bins, x, power); });
}

}  // namespace

void AddSum(const Tensor& total, const Tensor& x) { AddPowers("AddSum", total, x, Power::kFirst); }
void AddSumOfSquares(const Tensor& total, const Tensor& x) {
  AddPowers("AddSumOfSquares", total, x, Power::kSecond);
}
void AddExactSum(const Tensor& bins, const Tensor& x) {
  AddExactPowers("AddExactSum", bins, x, Power::kFirst);
}
void AddExactSumOfSquares(const Tensor& bins, const Tensor& x) {
  AddExactPowers("AddExactSumOfSquares", bins, x, Power::kSecond);
}

}  // namespace cairn
