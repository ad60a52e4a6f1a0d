#pragma once

#include <CLI/CLI.hpp>

namespace cairn {

/// Adds `cairn ckpt ls|info|tensors|show|verify|export|import` to `app`. Callbacks throw `Error`, or set
/// `exit_status` (which must outlive `app`) to kExitCheckFailed where `verify` finds damage.
void AddCkptCommand(CLI::App& app, int& exit_status);

}  // namespace cairn
