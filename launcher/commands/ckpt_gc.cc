#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <system_error>

#include "launcher/commands/arguments.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/garbage.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

struct GcOptions : CkptOptions {
  int64_t keep = 0;
  int64_t keep_every = 0;
  bool dry_run = false;
};

void CollectGarbage(const GcOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(options.target, ignored)) {
    Throw(ErrorKind::kCheckpoint, options.target, "is no folder; a run was expected");
  }
  const std::vector<GarbageVerdict> verdicts =
      JudgeGarbage(options.target, options.keep, options.keep_every);
  uint64_t bytes = 0;
  Json steps = Json::array();
  Table table({">iteration", "state", ">size", "verdict", "because it"});
  for (const GarbageVerdict& verdict : verdicts) {
    const CheckpointInfo& info = verdict.checkpoint;
    if (verdict.remove) {
      bytes += info.bytes;
      if (!options.dry_run) RemoveCheckpoint(info.path);
    }
    steps.push_back({{"iteration", info.iteration},
                     {"state", CheckpointStateName(info.state)},
                     {"bytes", info.bytes},
                     {"path", info.path},
                     {"remove", verdict.remove},
                     {"reason", verdict.reason}});
    table.AddRow(
        {fmt::to_string(info.iteration),
         CheckpointStateName(info.state),
         HumanBytes(info.bytes),
         {verdict.remove ? "remove" : "keep", verdict.remove ? Style::kWarning : Style::kGood},
         verdict.reason});
  }
  if (options.as_json) {
    PrintJson({{"run", options.target},
               {"dry_run", options.dry_run},
               {"bytes", bytes},
               {"steps", std::move(steps)}});
    return;
  }
  if (!verdicts.empty()) PrintText(table.Render());
  fmt::print(stderr, "{} {}\n", options.dry_run ? "would free" : "freed", HumanBytes(bytes));
}

}  // namespace

void AddCkptGc(CLI::App& ckpt) {
  const auto [gc, options] = AddCkptSubcommand<GcOptions>(
      ckpt, "gc", "remove what aborted saves left, and old checkpoints", "RUN", "a run folder");
  gc->add_flag("--dry-run", options->dry_run, "say what would go, remove nothing");
  CLI::Option* const keep =
      gc->add_option("--keep", options->keep, "remove good checkpoints but the newest N")
          ->check(AtLeast<int64_t>(1))
          ->type_name("N");
  gc->add_option("--keep-every", options->keep_every,
                 "keep iterations that are multiples of K, too")
      ->check(AtLeast<int64_t>(1))
      ->needs(keep)
      ->type_name("K");
  gc->footer(
      "The newest good checkpoint always stays; with --keep it is read whole first. So do damaged\n"
      "ones, and an unfinished one newer than every good one: such a save may be under way.");
  gc->callback([o = options] { CollectGarbage(*o); });
}

}  // namespace cairn
