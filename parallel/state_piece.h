#pragma once

#include <cstdint>
#include <string>

#include "parallel/parameter.h"

namespace cairn {

/// A flat run of one parameter's training state on this rank: what checkpoints save and load, and
/// what initialisation fills.
struct StatePiece {
  const Parameter* parameter = nullptr;
  std::string kind;    ///< "weight" (the fp32 main weight), "exp_avg", "exp_avg_sq"
  Tensor data;         ///< fp32 [n]: elements [begin, begin + n) of the flattened local tensor
  int64_t begin = 0;   ///< padding included
  bool writes = true;  ///< of the ranks that hold the same elements, this one saves them
};

}  // namespace cairn
