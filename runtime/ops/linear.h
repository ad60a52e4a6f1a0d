#pragma once

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"

namespace cairn {

/// y [T, out] = x [T, in] · Wᵀ + bias [out], with W = weight.value [out, in]; `bias` may be null.
/// One dtype throughout. The weights outlive the tape. Backward: dx = dy · W; deferred: dW += dyᵀ ·
/// x and db += Σ_t dy.
Value Linear(Tape& tape, const Value& x, Weight& weight, Weight* bias);

/// grad [out, in] += dyᵀ · x, with dy [T, out] and x [T, in]. `rows_per_sample` as a tape has it.
void AddWeightGradient(MainGrad& grad, const Tensor& dy, const Tensor& x, int64_t rows_per_sample);

}  // namespace cairn
