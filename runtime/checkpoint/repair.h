#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint/verify.h"

namespace cairn {

/// What became of a repair.
struct RepairReport {
  int64_t iteration = 0;
  uint64_t files = 0;            ///< shards
  uint64_t blocks = 0;           ///< headers and blocks that were looked at
  std::vector<Damage> replaced;  ///< taken from the replica; what is wrong with the damaged copy
  std::vector<Damage> lost;      ///< good in neither copy; if there are any, nothing was written
};

/// Writes to `directory`, which must not exist yet, the checkpoint of which `damaged` and `replica`
/// are copies: each header and block of 4 MiB from `damaged` where it has the committed digest,
/// else from `replica`. Either may lack COMMIT (or have it as DAMAGED) or MANIFEST.pb, not both the
/// same one. Reads its inputs and changes neither. Throws Error(kCheckpoint) if they are no copies
/// of one committed checkpoint.
RepairReport RepairCheckpoint(const std::string& damaged, const std::string& replica,
                              const std::string& directory);

}  // namespace cairn
