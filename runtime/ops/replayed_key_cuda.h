#pragma once

#include <cstdint>

#include "runtime/tensor/random.h"

namespace cairn::cuda {

/// `key`, in the step that is found at `step` unless that is null: what a kernel draws by, which
/// may be launched again in other steps (CudaDevice::replayed_step).
__device__ inline RandomKey KeyOfStep(RandomKey key, const uint32_t* step) {
  if (step != nullptr) key.step = *step;
  return key;
}

}  // namespace cairn::cuda
