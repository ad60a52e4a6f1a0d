#pragma once

#include <functional>

#include "runtime/autograd/tape.h"

namespace cairn {

/// Runs `piece(tape, x)` keeping only x; the backward pass runs it again to have its activations
/// (Chen et al. 2016, "Training deep nets with sublinear memory cost"). The piece must be a pure
/// function of x and of keys that do not change: random numbers are indexed, so that dropout
/// repeats. What the piece captures must outlive the backward pass.
Value Recompute(Tape& tape, const Value& x, std::function<Value(Tape& tape, const Value& x)> piece);

}  // namespace cairn
