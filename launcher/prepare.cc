#include "launcher/prepare.h"

#include <signal.h>
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

// Starts `arguments` with no signal blocked: training blocks those that stop it.
pid_t Spawn(char* const* arguments) {
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_t attributes;
  int failure = posix_spawnattr_init(&attributes);
  if (failure != 0) ThrowErrno(failure, "posix_spawnattr_init", arguments[1]);
  pid_t child = 0;
  failure = posix_spawnattr_setsigmask(&attributes, &none);
  if (failure == 0) failure = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  if (failure == 0) {
    failure = posix_spawnp(&child, arguments[0], nullptr, &attributes, arguments, environ);
  }
  (void)posix_spawnattr_destroy(&attributes);  // fails only for a wrong argument
  if (failure != 0) ThrowErrno(failure, "posix_spawnp", arguments[1]);
  return child;
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
  const pid_t child = Spawn(arguments.data());
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) ThrowErrno(errno, "waitpid", script);
  }
  if (status != 0 || !Prepared(config)) {
    Throw(ErrorKind::kData, script, "did not prepare {}; its messages above say why", folder);
  }
}

}  // namespace cairn
