#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "launcher/program.h"

// The commands under `cairn launch`, a file each.

namespace cairn {

/// A config and what follows it on the command line, as `cairn train` takes them.
struct LaunchedConfig {
  std::string name;
  std::vector<std::string> overrides;

  /// Parsed, not yet validated. Ranks read the config themselves, so that standard input is
  /// refused.
  LoadedConfig Load(const Program& program) const;
};

/// Adds the argument CONFIG and leaves the words after it to the config.
void AddConfigArgument(CLI::App& command, std::string& name);

void AddLaunchMpirun(CLI::App& launch, const Program& program, int& exit_status);
void AddLaunchSlurm(CLI::App& launch, const Program& program, int& exit_status);
/// What the watchdog found when a run stalled.
void AddLaunchExplain(CLI::App& launch);
/// status, cancel and logs of a submitted job.
void AddLaunchJobs(CLI::App& launch, int& exit_status);

}  // namespace cairn
