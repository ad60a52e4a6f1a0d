#include "runtime/ops/reduce.h"

#include <glog/logging.h>

#include "runtime/ops/reduce_cpu.h"
#include "runtime/tensor/dispatch.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {
namespace {

void AddPowers(const char* op, const Tensor& total, const Tensor& x, cpu::Power power) {
  CHECK(x.contiguous());
  CHECK_EQ(total.numel(), 1);
  OnCpu(op, x, [&] { cpu::AddSum(total, x, power); });
}

void AddExactPowers(const char* op, const Tensor& bins, const Tensor& x, cpu::Power power) {
  CHECK(x.contiguous() && bins.contiguous());
  CHECK_EQ(bins.numel(), ExactScalar::kBins);
  OnCpu(op, x, [&] { cpu::AddExactSum(bins, x, power); });
}

}  // namespace

void AddSum(const Tensor& total, const Tensor& x) {
  AddPowers("AddSum", total, x, cpu::Power::kFirst);
}
void AddSumOfSquares(const Tensor& total, const Tensor& x) {
  AddPowers("AddSumOfSquares", total, x, cpu::Power::kSecond);
}
void AddExactSum(const Tensor& bins, const Tensor& x) {
  AddExactPowers("AddExactSum", bins, x, cpu::Power::kFirst);
}
void AddExactSumOfSquares(const Tensor& bins, const Tensor& x) {
  AddExactPowers("AddExactSumOfSquares", bins, x, cpu::Power::kSecond);
}

}  // namespace cairn
