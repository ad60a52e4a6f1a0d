#include "runtime/checkpoint/fence.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "runtime/base/error.h"
#include "runtime/base/host.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

constexpr const char* kOwnerFile = "OWNER";
constexpr uint64_t kMaxOwnerBytes = 4096;

std::string RandomWord() {
  uint64_t word = 0;
  if (getrandom(&word, sizeof(word), 0) != sizeof(word)) ThrowErrno(errno, "getrandom", kOwnerFile);
  return fmt::format("{:016x}", word);
}

}  // namespace

RunFence RunFence::Take(const std::string& run_dir) {
  MakeDirectories(CheckpointsDirectory(run_dir));
  RunFence fence(JoinPath(CheckpointsDirectory(run_dir), kOwnerFile),
                 fmt::format("{} process {} on {}\n", RandomWord(), getpid(), HostName()));
  WriteFileAtomically(fence.path_, fence.owner_);
  for (const std::string& attempt : ListAttempts(run_dir)) AbortCheckpoint(attempt);
  return fence;
}

void RunFence::Check() const {
  std::error_code ignored;
  if (!std::filesystem::exists(path_, ignored)) return;  // nobody took it
  std::string owner = ReadWholeFile(path_, kMaxOwnerBytes);
  if (owner == owner_) return;
  const size_t space = owner.find(' ');
  owner = space == std::string::npos ? "another process" : owner.substr(space + 1);
  while (owner.ends_with('\n')) owner.pop_back();
  Throw(ErrorKind::kCheckpoint, path_,
        "this run was taken over by {}; this process can save nothing any more and ends", owner);
}

}  // namespace cairn
