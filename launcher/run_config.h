#pragma once

#include "runtime/config/config.h"

namespace cairn {

/// Checks a config for a run over `world_size` ranks and takes the vocabulary from the tokenizer
/// where the config does not give it. Throws what `cairn train` refuses, before any memory is
/// taken.
void ResolveRunConfig(LoadedConfig& loaded, int world_size);

}  // namespace cairn
