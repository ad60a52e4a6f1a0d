#pragma once

#include <CLI/CLI.hpp>

#include "launcher/program.h"

namespace cairn {

/// Adds `cairn bench`.
void AddBenchCommand(CLI::App& app, const Program& program, int& exit_status);

}  // namespace cairn
