#pragma once

#include <CLI/CLI.hpp>

#include "launcher/program.h"

namespace cairn {

/// Adds `cairn train`.
void AddTrainCommand(CLI::App& app, const Program& program, int& exit_status);

/// Reports a command line that cannot be understood, once even where a launcher started many ranks
/// with it. Returns the exit status.
int FailTogether(const Error& error, const Program& program);

}  // namespace cairn
