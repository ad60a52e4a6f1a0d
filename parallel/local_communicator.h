#pragma once

#include <functional>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// Ranks that are threads of one process: tests, and the single rank of a run without MPI.

/// A group of one, on any device: verbs copy input to output where they differ.
std::unique_ptr<Communicator> NewSingleCommunicator(const std::string& name = "world");

/// Runs `body(world)` on `size` threads, each a rank with one OpenMP thread, and joins them. When a
/// rank throws, the group is aborted, and the first error is rethrown here. Ranks that wait for one
/// whose body has returned get an Error(kCommunication) instead of waiting for ever, and so do all
/// ranks of a collective whose ranks called different verbs, sizes or dtypes.
void RunLocalRanks(int size, const std::function<void(Communicator& world)>& body);

}  // namespace cairn
