#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/verify.h"

// The checkpoints of a run: RUN_DIR/checkpoints/step-00000100/{*.safetensors, MANIFEST.pb, COMMIT}.
//
// A folder with COMMIT is a checkpoint; without, it is what an unfinished or half-removed one left.
// COMMIT is the last file to come and the first to go, each step durable before the next, so that
// neither a kill nor a power cut makes a part look whole.

namespace cairn {

/// RUN_DIR/checkpoints.
std::string CheckpointsDirectory(const std::string& run_dir);
/// RUN_DIR/checkpoints/step-00000100.
std::string StepDirectory(const std::string& run_dir, int64_t iteration);

/// Makes the folder of a new attempt, empty, and returns its path. What an attempt without COMMIT
/// left in it is removed. An Error of kind kCheckpoint if the iteration is committed already.
std::string BeginCheckpoint(const std::string& run_dir, int64_t iteration);

/// Makes `directory`, which must not exist yet, for a checkpoint of `iteration` outside of any run.
/// An Error of kind kUsage if it does, or if its name is that of another iteration's folder.
void BeginCheckpointAt(const std::string& directory, int64_t iteration);

/// Writes the manifest and commits: on return the checkpoint is durable. The manifest must describe
/// shards that are durable in `directory`. Any Error means that it is not to be counted on.
/// `guard`: see WriteCommit.
void CommitCheckpoint(const std::string& directory, const Manifest& manifest,
                      const CommitGuard& guard = {});

/// The folders of a run that hold no checkpoint, not even a damaged one: what attempts left, or a
/// save under way. Newest first.
std::vector<std::string> ListAttempts(const std::string& run_dir);

/// Removes a failed attempt as far as the disk allows; what stays is no checkpoint and goes with
/// the next BeginCheckpoint or ApplyRetention. A committed checkpoint is never touched.
void AbortCheckpoint(const std::string& directory) noexcept;

/// Removes a checkpoint, its COMMIT first.
void RemoveCheckpoint(const std::string& directory);

/// Sets a damaged checkpoint aside: COMMIT becomes DAMAGED, nothing else changes. Such a folder is
/// never resumed from and never counted; a later save of the same iteration replaces it.
void QuarantineCheckpoint(const std::string& directory);

/// The inverse, where what looked like damage turned out not to be.
void ReleaseCheckpoint(const std::string& directory);

/// Whether a step folder is or was a checkpoint, damaged or not; else an attempt left it.
bool WasCommitted(const std::string& directory);

/// Which committed checkpoints stay.
struct RetentionPolicy {
  int64_t keep = 0;                ///< so many of the newest; all if < 1
  int64_t retain_interval = 0;     ///< those of its multiples, too, whatever their age; 0: none
  int64_t protect_iteration = -1;  ///< the one resumed from, too; negative: none
};

/// Removes committed checkpoints that `policy` does not keep, and what attempts before the newest
/// committed iteration left; quarantined ones stay. Returns the folders that it removed. Call it
/// after a commit: it takes the newest for good.
std::vector<std::string> ApplyRetention(const std::string& run_dir, const RetentionPolicy& policy);

enum class CheckpointState {
  kCommitted,
  kAborted,  ///< no COMMIT: unfinished, or half removed
  kDamaged,  ///< quarantined, or a quick verification finds damage
};

/// "committed", "aborted" or "damaged".
const char* CheckpointStateName(CheckpointState state);

/// A step folder of a run.
struct CheckpointInfo {
  int64_t iteration = 0;
  std::string path;
  CheckpointState state = CheckpointState::kAborted;
  std::string problem;    ///< why it is not committed
  uint64_t bytes = 0;     ///< of all files in the folder
  uint64_t files = 0;     ///< how many
  int64_t unix_time = 0;  ///< seconds; when COMMIT, else the folder, was last written
};

/// All step folders of a run, oldest first; none if the run has no checkpoints folder.
std::vector<CheckpointInfo> ListCheckpoints(const std::string& run_dir);

/// Receives the path of a checkpoint that is passed over, and why.
using SkipCallback = std::function<void(const std::string& path, const std::string& reason)>;

/// The newest checkpoint of a run in which `level` finds no damage. LATEST is not asked.
std::optional<std::string> FindNewestGood(const std::string& run_dir, VerifyLevel level,
                                          const SkipCallback& on_skip = {});

/// Turns what a user names into a step folder: itself, or the newest good one (by quick
/// verification) of a run or checkpoints folder. An Error of kind kCheckpoint if there is none.
std::string ResolveCheckpoint(const std::string& path, const SkipCallback& on_skip = {});

}  // namespace cairn
