#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint/store.h"

namespace cairn {

/// Whether a step folder of a run can go, and why, or why not.
struct GarbageVerdict {
  CheckpointInfo checkpoint;
  bool remove = false;
  std::string reason;  ///< "is aborted and older than step-00000200"
};

/// Judges the step folders of a run, oldest first; removes nothing. What aborted saves before the
/// newest good checkpoint left can go. If `keep` > 0, so can good checkpoints but the newest `keep`
/// and those of multiples of `keep_every` (0: none); the newest good one is then read whole before
/// any older one is given up for it. Damaged ones stay, and aborted ones that are newer than every
/// good checkpoint: such a save may be under way.
std::vector<GarbageVerdict> JudgeGarbage(const std::string& run_dir, int64_t keep,
                                         int64_t keep_every);

}  // namespace cairn
