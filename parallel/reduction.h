#pragma once

#include <cstdint>
#include <span>

#include "parallel/communicator.h"
#include "runtime/tensor/dtype.h"

namespace cairn {

/// out[i] = sources[0][i] op sources[1][i] op ..., from left to right, for i in [0, count): the one
/// arithmetic behind every reduction of host memory, so that all backends agree to the bit. fp32,
/// bf16 and fp16 are summed in fp32 and rounded once; integers wrap; a NaN anywhere makes the
/// maximum NaN. `out` may be one of the sources, and must not overlap them otherwise. There is at
/// least one source.
void ReduceInOrder(void* out, std::span<const void* const> sources, int64_t count, DType dtype,
                   ReduceOp op);

}  // namespace cairn
