#include "launcher/commands/launch_command.h"

#include "launcher/commands/launch_actions.h"

namespace cairn {

LoadedConfig LaunchedConfig::Load(const Program& program) const {
  if (name == "-") {
    Throw(ErrorKind::kUsage, "CONFIG",
          "- would reach one rank only: write the config to a file that every host can read");
  }
  return LoadConfig(name, ParseOverrides(overrides), program.sources);
}

void AddConfigArgument(CLI::App& command, std::string& name) {
  command.add_option("CONFIG", name, "a config file or a preset")->required()->type_name("");
  command.allow_extras();
  command.footer("Any config field can follow CONFIG, as for `cairn train`.");
}

void AddLaunchCommand(CLI::App& app, const Program& program, int& exit_status) {
  CLI::App* command = app.add_subcommand("launch", "train on many hosts: mpirun or SLURM");
  command->require_subcommand(1);
  AddLaunchMpirun(*command, program, exit_status);
  AddLaunchSlurm(*command, program, exit_status);
  AddLaunchJobs(*command, exit_status);
  AddLaunchExplain(*command);
}

}  // namespace cairn
