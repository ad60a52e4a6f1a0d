#pragma once

#include "runtime/autograd/tape.h"

namespace cairn {

/// The tanh form of the Gaussian error linear unit (Hendrycks and Gimpel 2016):
/// y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), elementwise in fp32. Saves x.
Value Gelu(Tape& tape, const Value& x);

/// A GELU and what it was applied to: the products on both sides of it can do its work.
struct Activated {
  Value before;
  Value after;
};

/// Records y = gelu(x), which is computed already: Gelu() for ops that compute it on their way.
Value RecordGelu(Tape& tape, const Value& x, Tensor y);

/// y = gelu(x); contiguous, same shape and floating dtype.
void GeluForward(const Tensor& y, const Tensor& x);
Tensor Gelu(const Tensor& x);
/// dx = dy gelu'(x); dx may be dy.
void GeluBackward(const Tensor& dx, const Tensor& dy, const Tensor& x);

}  // namespace cairn
