#pragma once

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"
#include "runtime/tensor/random.h"

namespace cairn {

/// Which elements are dropped: a pure function of the key and an element's global index, so that
/// backward regenerates the mask and no layout changes it. Element (row, column) of [T, h] has the
/// index first_index + row h + column; it is dropped with probability p in [0, 1), the others are
/// multiplied by 1 / (1 - p).
struct DropoutSpec {
  double p = 0;
  RandomKey key = {};
  int64_t first_index = 0;
};

/// y = residual + dropout(x + bias) in one pass; x, residual [T, h], bias [h]; `bias` and
/// `residual` may be null. Rounded once. Saves nothing.
Value BiasDropoutAdd(Tape& tape, const Value& x, Weight* bias, const Value* residual,
                     const DropoutSpec& spec);

/// y = residual + dropout(x + bias), each of the latter two nullable; one floating dtype.
void BiasDropoutAddForward(const Tensor& y, const Tensor& x, const Tensor* bias,
                           const Tensor* residual, const DropoutSpec& spec);
/// dx = dropout(dy) with the forward mask.
void DropoutBackward(const Tensor& dx, const Tensor& dy, const DropoutSpec& spec);

}  // namespace cairn
