#pragma once

#include <string>

#include "runtime/checkpoint/manifest.h"
#include "runtime/config/config.h"

namespace cairn {

/// Refuses a checkpoint of another model: Error(kCheckpoint) that names the first setting that
/// gives its tensors another meaning. Layout, precision, batch and schedule may differ.
void CheckFit(const Manifest& manifest, const TrainConfig& config, const std::string& where);

/// The config a checkpoint was saved with. Throws Error(kCheckpoint).
TrainConfig ConfigOf(const Manifest& manifest, const std::string& where);

}  // namespace cairn
