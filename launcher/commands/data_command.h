#pragma once

#include <CLI/CLI.hpp>

namespace cairn {

/// Adds `cairn data build|info|show|verify|train-tokenizer` to `app`. Callbacks throw `Error`, or
/// set `exit_status` (which must outlive `app`) to kExitCheckFailed where `verify` finds damage.
void AddDataCommand(CLI::App& app, int& exit_status);

}  // namespace cairn
