#include <fmt/format.h>

#include <cstdio>

#include "launcher/commands/ckpt_actions.h"
#include "launcher/commands/ckpt_output.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

// A run's newest good checkpoint is not what is asked for here: the newest finished one may be bad.
std::string Target(const std::string& path) {
  const std::vector<CheckpointInfo> infos = ListCheckpoints(path);
  for (auto info = infos.rbegin(); info != infos.rend(); ++info) {
    if (info->state != CheckpointState::kAborted) return info->path;
    fmt::print(stderr, "passed over {}: {}\n", info->path, info->problem);
  }
  if (!infos.empty()) Throw(ErrorKind::kCheckpoint, path, "has no finished checkpoint");
  return ResolveAndReport(path);
}

}  // namespace

bool CkptVerify(const std::string& checkpoint, VerifyLevel level, bool as_json) {
  const std::string directory = Target(checkpoint);
  const std::vector<Damage> damages = VerifyCheckpoint(directory, level);
  const char* level_name = level == VerifyLevel::kFull ? "full" : "quick";
  if (as_json) {
    PrintJson({{"checkpoint", directory},
               {"level", level_name},
               {"ok", damages.empty()},
               {"damages", DamagesJson(damages)}});
    return damages.empty();
  }
  if (damages.empty()) {
    PrintText(fmt::format("{}: good ({} verification)\n", directory, level_name));
    return true;
  }
  PrintText(fmt::format("{}: damaged in {} place{}\n{}", directory, damages.size(),
                        damages.size() == 1 ? "" : "s", DamagesText(damages)));
  return false;
}

}  // namespace cairn
