#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "points_testing.h"

namespace cairn::faults {

/// States of the folder that were looked at, with what the run had been promised then.
using Seen = std::set<std::pair<std::string, FolderImage>>;

/// A run of which the power is lost at any time.
struct Timeline {
  Scenario scenario;
  std::string root;
  FolderImage before;
  std::vector<JournalEntry> journal;
  size_t skipped = 0;   ///< entries of the journal after which the scenario's save begins
  int64_t unsure = -1;  ///< a checkpoint of the scenario that may be lost, until another one was
                        ///< removed because it was there
};

/// That of a recording.
Timeline TimelineOf(const Points& points);

/// That of a run under `plan` which goes on from what `kill` left.
Timeline KillThenRun(Points& points, const Plan& kill, const Plan& plan);

/// Looks at what may be there when the power is lost after any operation, at up to `limit` states
/// for each, and goes on from there; but for what was seen before. Ends at the first state that has
/// problems and returns them.
std::vector<std::string> LosePower(const Timeline& timeline, size_t limit, Seen& seen,
                                   uint64_t seed = 1);

}  // namespace cairn::faults
