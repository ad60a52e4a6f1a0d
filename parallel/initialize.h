#pragma once

#include <cstdint>

#include "parallel/state_piece.h"

namespace cairn {

/// Fills a piece with the parameter's initial values: element e of the global tensor is a function
/// of (seed, parameter name, e), so that any layout starts from the same weights.
void InitializeWeights(const StatePiece& piece, uint64_t seed);

}  // namespace cairn
