#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// Carries tensors of the GPU `device` over NCCL; every rank of `host`, which must outlive it, has
/// a GPU of its own, or WhyNcclTakesNoSharedGpu() is empty on all. Collective. Host bytes go over
/// `host`.
///
/// A thread of its own looks after the group and the parts split from it: a rank whose NCCL reports
/// an error (a peer is gone, a network failed) aborts NCCL, so that no kernel waits for ever, and
/// then, if its host still hangs, the job (Communicator::Abort of `host`).
///
/// In a recording (Device::Capture) the compute stream waits for the oldest message once more than
/// twice as many have been sent as the group has ranks, so that their memory can be used again.
/// What connects ranks, the first collective and the first message to a peer, comes before a
/// recording.
///
/// Sums are NCCL's: the same on every rank, but in an order that NCCL chooses by size and topology,
/// and with a rounding at every step in bf16 and fp16. Exact sums (train.deterministic) have no
/// order.
std::unique_ptr<Communicator> NewNcclCommunicator(Communicator& host, Device& device);

/// Empty if NCCL takes ranks of this host that share a GPU, or why not.
std::string WhyNcclTakesNoSharedGpu();

}  // namespace cairn
