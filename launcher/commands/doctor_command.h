#pragma once

#include <CLI/CLI.hpp>

namespace cairn {

/// Adds `cairn doctor [--json]` to `app`: what this host offers to training, and what to do about
/// what is amiss. Sets `exit_status` (which must outlive `app`) to kExitCheckFailed if training
/// cannot work here.
void AddDoctorCommand(CLI::App& app, int& exit_status);

}  // namespace cairn
