#include "launcher/commands/ckpt_command.h"

#include "launcher/commands/ckpt_hugging_face.h"
#include "launcher/commands/ckpt_rewrite.h"
#include "launcher/commands/ckpt_subcommands.h"

namespace cairn {

void AddCkptCommand(CLI::App& app, int& exit_status) {
  CLI::App* const ckpt =
      app.add_subcommand("ckpt", "inspect, compare, verify and rewrite checkpoints");
  ckpt->require_subcommand(1);
  AddCkptLs(*ckpt);
  AddCkptInfo(*ckpt);
  AddCkptTree(*ckpt);
  AddCkptTensors(*ckpt);
  AddCkptShow(*ckpt);
  AddCkptStats(*ckpt);
  AddCkptLayout(*ckpt);
  AddCkptVerify(*ckpt, exit_status);
  AddCkptWhyNot(*ckpt, exit_status);
  AddCkptId(*ckpt);
  AddCkptDiff(*ckpt, exit_status);
  AddCkptGc(*ckpt);
  AddReshard(*ckpt);
  AddRepair(*ckpt, exit_status);
  AddBenchIo(*ckpt);
  AddCkptExport(*ckpt);
  AddCkptImport(*ckpt);
  // Room for the commands on one screen. They took the option over from this one: not before.
  ckpt->get_help_ptr()->group("");
}

}  // namespace cairn
