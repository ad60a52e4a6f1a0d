#include "parallel/shared_storage.h"

#include <chrono>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "parallel/agreement.h"
#include "runtime/base/error.h"
#include "runtime/base/host.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
namespace {

// A network file system may show a new folder a little later.
constexpr auto kPatience = std::chrono::seconds(2);
constexpr auto kPause = std::chrono::milliseconds(50);

// A name that no file had before, so that no host can remember it as missing.
std::string UniqueName() {
  std::random_device random;
  return fmt::format(".cairn-{:08x}{:08x}", random(), random());
}

bool Holds(const std::string& path, const std::string& content) {
  try {
    return ReadWholeFile(path, content.size()) == content;
  } catch (const Error&) {
    return false;
  }
}

bool Sees(const std::string& path, const std::string& content) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!Holds(path, content)) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

}  // namespace

void CheckSharedStorage(Communicator& world, const std::string& directory) {
  const std::string name = RunOnFirst(world, [&] {
    MakeDirectories(directory);
    std::string unique = UniqueName();
    WriteFileAtomically(JoinPath(directory, unique), unique);
    return unique;
  });
  const std::string path = JoinPath(directory, name);
  // 'y' or 'n', and the host.
  const std::vector<std::string> answers =
      world.AllGatherBytes((Sees(path, name) ? "y" : "n") + HostName());
  RunOnFirst(world, [&] {
    RemoveFile(path);
    return std::string();
  });
  for (int rank = 0; rank < world.size(); ++rank) {
    if (answers[rank][0] == 'y') continue;
    throw CollectiveError(
        ErrorKind::kConfig, "run_dir",
        fmt::format("rank {} on {} does not see in {} what rank 0 on {} wrote there; every rank "
                    "saves its part of a checkpoint there: give run_dir a path in a file system "
                    "that all hosts share",
                    rank, answers[rank].substr(1), directory, answers[0].substr(1)));
  }
}

}  // namespace cairn
