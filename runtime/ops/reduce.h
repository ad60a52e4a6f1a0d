#pragma once

#include "runtime/tensor/tensor.h"

namespace cairn {

// Sums of all elements of a contiguous tensor (fp32, bf16, fp16), added to numbers that stay on the
// device: the host need not wait. Neither the number of threads nor alignment changes a bit.

/// total (fp64 [1]) += sum of x, in fp64 over fixed blocks.
void AddSum(const Tensor& total, const Tensor& x);
/// total (fp64 [1]) += sum of x^2.
void AddSumOfSquares(const Tensor& total, const Tensor& x);

/// bins (fp64 [ExactScalar::kBins]) += x, as by ExactScalar::Add: no split of the elements over
/// calls or ranks, and no order, changes a bit of the bins.
void AddExactSum(const Tensor& bins, const Tensor& x);
/// bins += x^2, each square exact for fp32 and narrower.
void AddExactSumOfSquares(const Tensor& bins, const Tensor& x);

}  // namespace cairn
