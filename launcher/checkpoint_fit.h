#pragma once

#include <string>

#include "parallel/parameter.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/config/config.h"

namespace cairn {

/// Refuses a checkpoint of another model: Error(kCheckpoint) that names the first setting that
/// gives its tensors another meaning. Layout, precision, batch and schedule may differ.
void CheckFit(const Manifest& manifest, const TrainConfig& config, const std::string& where);

/// The config a checkpoint was saved with, validated as any other. Throws Error(kCheckpoint).
TrainConfig ConfigOf(const Manifest& manifest, const std::string& where);

/// Refuses a checkpoint that does not hold the weights `parameters` in their shapes, before memory
/// is taken for them: the config inside it may claim a model of any size.
void CheckWeights(const CheckpointReader& reader, const ParameterList& parameters);

}  // namespace cairn
