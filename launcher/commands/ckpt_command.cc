#include "launcher/commands/ckpt_command.h"

#include <memory>
#include <string>

#include "launcher/commands/ckpt_actions.h"
#include "launcher/commands/ckpt_hugging_face.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/manifest.h"

namespace cairn {
namespace {

// What the subcommands are told; each uses its part.
struct Options {
  std::string target;
  std::string glob;
  std::string tensor;
  std::string kind = kWeightKind;
  bool quick = false;
  bool full = false;
  bool as_json = false;
};

// A subcommand with the two arguments that all share.
std::pair<CLI::App*, std::shared_ptr<Options>> Add(CLI::App& ckpt, const char* name,
                                                   const char* description, const char* target) {
  auto options = std::make_shared<Options>();
  CLI::App* const command = ckpt.add_subcommand(name, description);
  const bool is_run = std::string(target) == "RUN";
  command
      ->add_option("target", options->target,
                   is_run ? "a run folder" : "a step folder, or a run folder (its newest good one)")
      ->required()
      ->type_name(target);
  command->add_flag("--json", options->as_json, "print JSON");
  return {command, std::move(options)};
}

void AddListing(CLI::App& ckpt) {
  const auto [ls, ls_options] = Add(ckpt, "ls", "list the checkpoints of a run", "RUN");
  ls->callback([o = ls_options] { CkptLs(o->target, o->as_json); });

  const auto [info, info_options] =
      Add(ckpt, "info", "show progress, sizes, layout and config", "CHECKPOINT");
  info->callback([o = info_options] { CkptInfo(o->target, o->as_json); });

  const auto [tensors, tensors_options] =
      Add(ckpt, "tensors", "list the logical tensors", "CHECKPOINT");
  tensors->add_option("--glob", tensors_options->glob, "only names that match, as in a shell")
      ->type_name("PATTERN");
  tensors->callback([o = tensors_options] { CkptTensors(o->target, o->glob, o->as_json); });
}

void AddShow(CLI::App& ckpt) {
  const auto [show, options] = Add(ckpt, "show", "show values of a tensor", "CHECKPOINT");
  show->add_option("tensor", options->tensor, "its name, or a part of it: NAME[0:3,:8]")
      ->required()
      ->type_name("TENSOR");
  show->add_option("--kind", options->kind, "weight, exp_avg, ...")
      ->capture_default_str()
      ->type_name("KIND");
  show->callback([o = options] { CkptShow(o->target, o->tensor, o->kind, o->as_json); });
}

void AddVerify(CLI::App& ckpt, int& exit_status) {
  const auto [verify, options] =
      Add(ckpt, "verify", "look for damage; exit status 1 where there is some", "CHECKPOINT");
  CLI::Option* const quick =
      verify->add_flag("--quick", options->quick, "commit, manifest, sizes and headers only");
  verify->add_flag("--full", options->full, "every byte (default)")->excludes(quick);
  verify->callback([o = options, &exit_status] {
    const VerifyLevel level = o->quick ? VerifyLevel::kQuick : VerifyLevel::kFull;
    if (!CkptVerify(o->target, level, o->as_json)) exit_status = kExitCheckFailed;
  });
}

}  // namespace

void AddCkptCommand(CLI::App& app, int& exit_status) {
  CLI::App* const ckpt = app.add_subcommand("ckpt", "inspect and verify checkpoints");
  ckpt->require_subcommand(1);
  AddListing(*ckpt);
  AddShow(*ckpt);
  AddVerify(*ckpt, exit_status);
  AddCkptExport(*ckpt);
  AddCkptImport(*ckpt);
}

}  // namespace cairn
