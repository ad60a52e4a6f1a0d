#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace cairn {

/// Carries tensors of `device` over a communicator of host memory, which must outlive it: every
/// verb copies to the host, waits, runs there, and copies back. For ranks that share a GPU, which
/// NCCL refuses. Nothing overlaps, and results are those of `host`.
std::unique_ptr<Communicator> NewStagedCommunicator(Communicator& host, Device& device);

}  // namespace cairn
