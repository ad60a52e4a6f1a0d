#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace cairn {

/// What one rank communicated, by group: the planner reads it.
struct CommRecord {
  std::string group;  ///< name of the communicator
  std::string verb;   ///< "AllReduce", "Send", ...
  int group_size = 1;
  int64_t calls = 0;
  int64_t bytes = 0;  ///< of the larger of input and output, summed over the calls
};

/// A rank of an imagined world, on the `meta` device: verbs return at once and are counted.
/// AllGatherBytes gives the caller's own bytes for every rank. `log` outlives the communicator and
/// those split from it; one entry per (group, verb).
std::unique_ptr<Communicator> NewMetaCommunicator(int rank, int size, std::vector<CommRecord>* log);

/// Split by colors needs every rank's color: a meta rank knows its mesh instead. Makes the group
/// `name` of `size` ranks in which the caller is `rank`.
std::unique_ptr<Communicator> NewMetaGroup(int rank, int size, const std::string& name,
                                           std::vector<CommRecord>* log);

}  // namespace cairn
