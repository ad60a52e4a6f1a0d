#pragma once

#include <CLI/CLI.hpp>

// The subcommands of `cairn ckpt` that write: each to a new path, none to what it reads.

namespace cairn {

/// `reshard CHECKPOINT NEW --tensor-model-parallel-size 4 ...`
void AddReshard(CLI::App& ckpt);

/// `repair DAMAGED --from REPLICA NEW`; sets `exit_status` to kExitCheckFailed where neither copy
/// has some block.
void AddRepair(CLI::App& ckpt, int& exit_status);

/// `bench-io DIR`.
void AddBenchIo(CLI::App& ckpt);

}  // namespace cairn
