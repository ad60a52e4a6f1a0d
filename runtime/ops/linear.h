#pragma once

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"

namespace cairn {

/// y [T, out] = x [T, in] · Wᵀ + bias [out], with W = weight.value [out, in]; `bias` may be null.
/// One dtype throughout. The weights outlive the tape. Backward: dx = dy · W; deferred: dW += dyᵀ ·
/// x and db += Σ_t dy.
Value Linear(Tape& tape, const Value& x, Weight& weight, Weight* bias);

}  // namespace cairn
