#pragma once

#include "runtime/config/config.h"

namespace cairn {

/// Runs one training step of the real model code on `meta` for every distinct rank of a world of
/// `world_size` ranks (0: the smallest that the layout fits) and prints what each would hold.
/// Returns the exit status.
int DryRun(LoadedConfig loaded, int world_size);

}  // namespace cairn
