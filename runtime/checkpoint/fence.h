#pragma once

#include <string>

namespace cairn {

/// Whom a run belongs to: of all processes that ever trained it, only the last may commit. One that
/// was cut off (its host lost the network, it was stopped and woke again) after another took its
/// place finds that out before its next commit.
///
/// RUN_DIR/checkpoints/OWNER names the owner by a random word. A new owner writes it first and then
/// removes what is not committed; a save writes COMMIT.part, then looks at OWNER, then renames. So
/// whatever the order of the two, either the old process sees the new owner, or its COMMIT.part is
/// gone before it can be renamed, or its commit was there when the new owner looked for the newest.
class RunFence {
 public:
  /// Makes this process the owner, and removes unfinished attempts of others.
  static RunFence Take(const std::string& run_dir);

  /// Throws Error(kCheckpoint) if another process has taken the run since; the message names it.
  void Check() const;

 private:
  RunFence(std::string path, std::string owner)
      : path_(std::move(path)), owner_(std::move(owner)) {}

  std::string path_;
  std::string owner_;  // what OWNER shall say
};

}  // namespace cairn
