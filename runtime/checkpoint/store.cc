#include "runtime/checkpoint/store.h"

#include <fmt/format.h>
#include <glog/logging.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpointsFolder = "checkpoints";
constexpr const char* kLatestFile = "LATEST";

struct Step {
  int64_t iteration;
  std::string path;
};

bool Exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool IsDirectory(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool HasCommit(const std::string& directory) { return Exists(JoinPath(directory, kCommitFile)); }

// The names in a directory, sorted.
std::vector<std::string> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename());
  }
  if (error) ThrowErrno(error.value(), "read directory", path);
  std::ranges::sort(names);
  return names;
}

// The step folders in a checkpoints folder, newest first.
std::vector<Step> ListSteps(const std::string& checkpoints) {
  std::vector<Step> steps;
  if (!IsDirectory(checkpoints)) return steps;
  for (const std::string& name : ListDirectory(checkpoints)) {
    const std::optional<int64_t> iteration = ParseStepName(name);
    std::string path = JoinPath(checkpoints, name);
    if (iteration && IsDirectory(path)) steps.push_back({*iteration, std::move(path)});
  }
  std::ranges::sort(steps, std::ranges::greater(), &Step::iteration);
  return steps;
}

// Removes the files of a folder, first what makes it a checkpoint. That is made durable even where
// there is no COMMIT: it may just have been removed.
void RemoveContents(const std::string& directory) {
  RemoveFile(JoinPath(directory, kCommitFile));
  SyncDirectory(directory);
  for (const std::string& name : ListDirectory(directory)) RemoveFile(JoinPath(directory, name));
}

// Nothing if the path is gone: a folder may be looked at while a save writes to it.
std::optional<struct stat> Status(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0) return status;
  if (errno == ENOENT) return std::nullopt;
  ThrowErrno(errno, "stat", path);
}

CheckpointInfo Inspect(const Step& step) {
  CheckpointInfo info;
  info.iteration = step.iteration;
  info.path = step.path;
  const std::string commit = JoinPath(step.path, kCommitFile);
  const bool committed = Exists(commit);
  for (const std::string& name : ListDirectory(step.path)) {
    const auto status = Status(JoinPath(step.path, name));
    if (!status) continue;
    info.bytes += static_cast<uint64_t>(status->st_size);
    ++info.files;
  }
  const auto status = Status(committed ? commit : step.path);
  info.unix_time = status ? status->st_mtime : 0;
  const std::vector<Damage> damages = VerifyCheckpoint(step.path, VerifyLevel::kQuick);
  if (damages.empty()) {
    info.state = CheckpointState::kCommitted;
  } else {
    const bool quarantined = Exists(JoinPath(step.path, kDamagedFile));
    info.state = committed || quarantined ? CheckpointState::kDamaged : CheckpointState::kAborted;
    info.problem = Describe(damages.front());
  }
  return info;
}

std::optional<std::string> NewestGoodIn(const std::string& checkpoints, VerifyLevel level,
                                        const SkipCallback& on_skip) {
  for (const Step& step : ListSteps(checkpoints)) {
    const std::vector<Damage> damages = VerifyCheckpoint(step.path, level);
    if (damages.empty()) return step.path;
    if (on_skip) on_skip(step.path, Describe(damages.front()));
  }
  return std::nullopt;
}

}  // namespace

std::string CheckpointsDirectory(const std::string& run_dir) {
  return JoinPath(run_dir, kCheckpointsFolder);
}

std::string StepDirectory(const std::string& run_dir, int64_t iteration) {
  return JoinPath(CheckpointsDirectory(run_dir), StepName(iteration));
}

std::string BeginCheckpoint(const std::string& run_dir, int64_t iteration) {
  CHECK_GE(iteration, 0);
  std::string directory = StepDirectory(run_dir, iteration);
  if (HasCommit(directory)) {
    Throw(ErrorKind::kCheckpoint, directory,
          "is committed already; remove it, or give the run another run_dir");
  }
  try {
    MakeDirectories(directory);
    RemoveContents(directory);
  } catch (const Error&) {
    AbortCheckpoint(directory);
    throw;
  }
  return directory;
}

void BeginCheckpointAt(const std::string& directory, int64_t iteration) {
  const fs::path path = fs::path(directory + "/").lexically_normal().parent_path();
  const std::optional<int64_t> step = ParseStepName(path.filename());
  if (step && *step != iteration) {
    Throw(ErrorKind::kUsage, directory, "names iteration {}, the checkpoint is of {}: call it {}",
          *step, iteration, StepName(iteration));
  }
  MakeDirectories(ParentDirectory(directory));
  if (::mkdir(directory.c_str(), 0777) != 0) {
    if (errno != EEXIST) ThrowErrno(errno, "mkdir", directory);
    Throw(ErrorKind::kUsage, directory, "exists already; name a folder that does not");
  }
  SyncDirectory(ParentDirectory(directory));
}

std::vector<std::string> ListAttempts(const std::string& run_dir) {
  std::vector<std::string> attempts;
  for (Step& step : ListSteps(CheckpointsDirectory(run_dir))) {
    if (!WasCommitted(step.path)) attempts.push_back(std::move(step.path));
  }
  return attempts;
}

void CommitCheckpoint(const std::string& directory, const Manifest& manifest,
                      const CommitGuard& guard) {
  WriteCommit(directory, manifest, guard);
  // From here on the checkpoint exists: a hint that cannot be written must not say otherwise.
  const fs::path path(directory);
  if (path.filename() != StepName(manifest.iteration)) return;
  try {
    WriteFileAtomically(path.parent_path() / kLatestFile, StepName(manifest.iteration) + "\n");
  } catch (const Error& error) {
    LOG(WARNING) << "the checkpoint is committed, but its hint is not: " << error.what();
    RemoveFileQuietly(path.parent_path() / kLatestFile);  // better none than that of an older one
  }
}

void AbortCheckpoint(const std::string& directory) noexcept {
  try {
    if (HasCommit(directory)) {
      LOG(WARNING) << directory << " is committed and stays";
    } else if (IsDirectory(directory)) {
      RemoveCheckpoint(directory);
    }
  } catch (const std::exception& error) {
    LOG(WARNING) << "an aborted checkpoint could not be removed: " << error.what();
  }
}

void RemoveCheckpoint(const std::string& directory) {
  RemoveContents(directory);
  if (::rmdir(directory.c_str()) != 0) ThrowErrno(errno, "rmdir", directory);
  SyncDirectory(ParentDirectory(directory));
}

void QuarantineCheckpoint(const std::string& directory) {
  if (!HasCommit(directory)) return;
  RenameFile(JoinPath(directory, kCommitFile), JoinPath(directory, kDamagedFile));
  SyncDirectory(directory);
}

void ReleaseCheckpoint(const std::string& directory) {
  RenameFile(JoinPath(directory, kDamagedFile), JoinPath(directory, kCommitFile));
  SyncDirectory(directory);
}

bool WasCommitted(const std::string& directory) {
  return HasCommit(directory) || Exists(JoinPath(directory, kDamagedFile));
}

std::vector<std::string> ApplyRetention(const std::string& run_dir, const RetentionPolicy& policy) {
  const auto outlives_age = [&](int64_t iteration) {
    return iteration == policy.protect_iteration ||
           (policy.retain_interval > 0 && iteration % policy.retain_interval == 0);
  };
  std::vector<std::string> staying;
  std::vector<std::string> going;
  for (const Step& step : ListSteps(CheckpointsDirectory(run_dir))) {
    if (HasCommit(step.path)) {
      const bool stays =
          policy.keep < 1 || std::ssize(staying) < policy.keep || outlives_age(step.iteration);
      (stays ? staying : going).push_back(step.path);
    } else if (!staying.empty() && !Exists(JoinPath(step.path, kDamagedFile))) {
      // Newer than every commit, it may be a save under way.
      going.push_back(step.path);
    }
  }
  if (going.empty()) return going;
  // A run that died may have left a COMMIT that is not durable yet.
  for (const std::string& path : staying) SyncDirectory(path);
  for (const std::string& path : going) RemoveCheckpoint(path);
  return going;
}

const char* CheckpointStateName(CheckpointState state) {
  switch (state) {
    case CheckpointState::kCommitted:
      return "committed";
    case CheckpointState::kAborted:
      return "aborted";
    case CheckpointState::kDamaged:
      return "damaged";
  }
  return "damaged";
}

std::vector<CheckpointInfo> ListCheckpoints(const std::string& run_dir) {
  std::vector<CheckpointInfo> infos;
  for (const Step& step : ListSteps(CheckpointsDirectory(run_dir))) infos.push_back(Inspect(step));
  std::ranges::reverse(infos);
  return infos;
}

std::optional<std::string> FindNewestGood(const std::string& run_dir, VerifyLevel level,
                                          const SkipCallback& on_skip) {
  return NewestGoodIn(CheckpointsDirectory(run_dir), level, on_skip);
}

std::string ResolveCheckpoint(const std::string& path, const SkipCallback& on_skip) {
  if (!IsDirectory(path)) {
    Throw(ErrorKind::kCheckpoint, path, "is no folder; a step or run folder was expected");
  }
  for (const char* name : {kCommitFile, kManifestFile, kDamagedFile}) {
    if (Exists(JoinPath(path, name))) return path;
  }
  const fs::path normal = fs::path(path + "/").lexically_normal().parent_path();
  if (ParseStepName(normal.filename())) return path;
  const std::string checkpoints =
      IsDirectory(CheckpointsDirectory(path)) ? CheckpointsDirectory(path) : path;
  const std::optional<std::string> newest = NewestGoodIn(checkpoints, VerifyLevel::kQuick, on_skip);
  if (!newest) Throw(ErrorKind::kCheckpoint, path, "has no good checkpoint");
  return *newest;
}

}  // namespace cairn
