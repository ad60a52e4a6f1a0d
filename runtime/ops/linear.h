#pragma once

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"
#include "runtime/ops/gelu.h"

namespace cairn {

/// y [T, out] = x [T, in] · Wᵀ + bias [out], with W = weight.value [out, in]; `bias` may be null.
/// One dtype throughout. The weights outlive the tape. Backward: dx = dy · W; deferred: dW += dyᵀ ·
/// x and db += Σ_t dy.
Value Linear(Tape& tape, const Value& x, Weight& weight, Weight* bias);

/// grad [out, in] += dyᵀ · x, with dy [T, out] and x [T, in]. `rows_per_sample` as a tape has it.
void AddWeightGradient(MainGrad& grad, const Tensor& dy, const Tensor& x, int64_t rows_per_sample);

/// before = x·Wᵀ + bias and after = gelu(before), as Linear() and Gelu() of it, in one kernel where
/// the device has one.
Activated LinearGelu(Tape& tape, const Value& x, Weight& weight, Weight* bias);

/// Linear() of `x.after`. Its backward pass gives `x.before` the gradient, through GELU, in one
/// kernel where the device has one.
Value Linear(Tape& tape, const Activated& x, Weight& weight, Weight* bias);

}  // namespace cairn
