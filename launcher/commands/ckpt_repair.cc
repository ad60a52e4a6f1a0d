#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_rewrite.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/repair.h"

namespace cairn {
namespace {

struct RepairArguments {
  std::string damaged;
  std::string replica;
  std::string target;
  bool as_json = false;
};

bool Run(const RepairArguments& arguments) {
  const RepairReport report =
      RepairCheckpoint(arguments.damaged, arguments.replica, arguments.target);
  const bool whole = report.lost.empty();
  if (arguments.as_json) {
    PrintJson({{"damaged", arguments.damaged},
               {"replica", arguments.replica},
               {"new", whole ? Json(arguments.target) : Json()},
               {"ok", whole},
               {"iteration", report.iteration},
               {"files", report.files},
               {"blocks", report.blocks},
               {"from_replica", DamagesJson(report.replaced)},
               {"lost", DamagesJson(report.lost)}});
    return whole;
  }
  std::string text = fmt::format("from {}: {} of {} blocks\n", arguments.replica,
                                 report.replaced.size(), report.blocks);
  text += DamagesText(report.replaced);
  if (whole) {
    text += fmt::format("{}: whole, {} shards of iteration {}\n", arguments.target, report.files,
                        report.iteration);
  } else {
    text += fmt::format("lost in both copies, nothing written: {} place{}\n", report.lost.size(),
                        report.lost.size() == 1 ? "" : "s");
    text += DamagesText(report.lost);
  }
  PrintText(text);
  return whole;
}

}  // namespace

void AddRepair(CLI::App& ckpt, int& exit_status) {
  auto arguments = std::make_shared<RepairArguments>();
  CLI::App* const command =
      ckpt.add_subcommand("repair", "write a whole checkpoint from a damaged one and a copy of it");
  command->add_option("DAMAGED", arguments->damaged, "its step folder")->required()->type_name("");
  command->add_option("NEW", arguments->target, "the step folder to write; must not exist yet")
      ->required()
      ->type_name("");
  command->add_option("--from", arguments->replica, "a copy of the same checkpoint")
      ->required()
      ->type_name("REPLICA");
  command->add_flag("--json", arguments->as_json, "print JSON");
  command->callback([arguments, &exit_status] {
    if (!Run(*arguments)) exit_status = kExitCheckFailed;
  });
}

}  // namespace cairn
