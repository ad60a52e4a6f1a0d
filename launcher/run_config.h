#pragma once

#include "runtime/config/config.h"

namespace cairn {

/// Checks a config for a run over `world_size` ranks and takes the vocabulary from the tokenizer
/// where the config does not give it. Throws what `cairn train` refuses, before any memory is
/// taken.
void ResolveRunConfig(LoadedConfig& loaded, int world_size);

/// The same for what trains on no data (a dry run, a benchmark): run_dir and data_path need not be
/// set, and a tokenizer is read only where the config has no vocab_size.
void ResolveShapeConfig(LoadedConfig& loaded, int world_size);

}  // namespace cairn
