#pragma once

#include <CLI/CLI.hpp>

namespace cairn {

/// Adds `cairn ckpt` and its subcommands to `app`. Callbacks throw `Error`, or set `exit_status`
/// (which must outlive `app`) to kExitCheckFailed where `verify` finds damage or `repair` a loss.
void AddCkptCommand(CLI::App& app, int& exit_status);

}  // namespace cairn
