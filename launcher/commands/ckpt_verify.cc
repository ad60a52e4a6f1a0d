#include <fmt/format.h>

#include <cstdio>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
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

struct VerifyOptions : CkptOptions {
  bool quick = false;
  bool full = false;
};

// Whether the checkpoint is sound; prints what is not.
bool Verify(const VerifyOptions& options) {
  const std::string directory = Target(options.target);
  const std::vector<Damage> damages =
      VerifyCheckpoint(directory, options.quick ? VerifyLevel::kQuick : VerifyLevel::kFull);
  const char* level_name = options.quick ? "quick" : "full";
  if (options.as_json) {
    PrintJson({{"checkpoint", directory},
               {"level", level_name},
               {"ok", damages.empty()},
               {"damages", DamagesJson(damages)}});
    return damages.empty();
  }
  if (damages.empty()) {
    PrintText(fmt::format("{}: {} ({} verification)\n", directory, Styled("good", Style::kGood),
                          level_name));
    return true;
  }
  PrintText(fmt::format("{}: {} in {} place{}\n{}", directory, Styled("damaged", Style::kBad),
                        damages.size(), damages.size() == 1 ? "" : "s", DamagesText(damages)));
  return false;
}

}  // namespace

void AddCkptVerify(CLI::App& ckpt, int& exit_status) {
  const auto [verify, options] = AddCkptSubcommand<VerifyOptions>(
      ckpt, "verify", "look for damage", "CHECKPOINT",
      "a step folder, or a run folder (its newest finished one, good or not)");
  CLI::Option* const quick =
      verify->add_flag("--quick", options->quick, "commit, manifest, sizes and headers only");
  verify->add_flag("--full", options->full, "every byte (default)")->excludes(quick);
  verify->footer("Exit status 1 where there is damage.");
  verify->callback([o = options, &exit_status] {
    if (!Verify(*o)) exit_status = kExitCheckFailed;
  });
}

}  // namespace cairn
