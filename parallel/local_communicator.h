#pragma once

#include <functional>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// Ranks that are threads of one process: tests, and the single rank of a run without MPI.

/// A group of one: verbs copy input to output where they differ.
std::unique_ptr<Communicator> NewSingleCommunicator();

/// Runs `body(world)` on `size` threads, each a rank with one OpenMP thread, and joins them. When a
/// rank throws, the group is aborted, and the first error is rethrown here.
void RunLocalRanks(int size, const std::function<void(Communicator& world)>& body);

}  // namespace cairn
