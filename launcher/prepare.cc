#include "launcher/prepare.h"

#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <filesystem>

extern char** environ;

namespace cairn {
namespace {

namespace fs = std::filesystem;

bool Prepared(const TrainConfig& config) {
  return fs::exists(config.data().data_path(0) + ".idx") && fs::exists(config.data().tokenizer());
}

}  // namespace

void PrepareQuickstartData(const TrainConfig& config, const Program& program) {
  if (Prepared(config)) return;
  const std::string script =
      (fs::path(program.sources.configs_dir).parent_path() / "launcher" / "prepare_data.sh")
          .string();
  if (!fs::exists(script)) {
    Throw(ErrorKind::kData, config.data().data_path(0),
          "the quickstart's data is not there; run ./launcher/quickstart.sh in the source tree "
          "first");
  }
  const std::string folder = fs::path(config.data().data_path(0)).parent_path().string();
  std::array<std::string, 4> words = {"sh", script, program.executable, folder};
  std::array<char*, 5> arguments = {words[0].data(), words[1].data(), words[2].data(),
                                    words[3].data(), nullptr};
  pid_t child = 0;
  const int spawned = posix_spawnp(&child, "sh", nullptr, nullptr, arguments.data(), environ);
  if (spawned != 0) ThrowErrno(spawned, "posix_spawnp", script);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) ThrowErrno(errno, "waitpid", script);
  }
  if (status != 0 || !Prepared(config)) {
    Throw(ErrorKind::kData, script, "did not prepare {}; its messages above say why", folder);
  }
}

}  // namespace cairn
