#pragma once

#include <CLI/CLI.hpp>

namespace cairn {

/// Adds `cairn plan`.
void AddPlanCommand(CLI::App& app);

}  // namespace cairn
