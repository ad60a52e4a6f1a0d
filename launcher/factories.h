#pragma once

#include <memory>
#include <string>

#include "model/families/gpt/gpt.h"
#include "optimizer/distributed_optimizer.h"
#include "optimizer/loss_scaler.h"
#include "optimizer/lr_schedule.h"
#include "parallel/mesh.h"
#include "parallel/parameter_buffers.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/config/config.h"
#include "runtime/device/device.h"

namespace cairn {

// From a validated config to the options of the floors below, which know no protobuf.

/// vocab_size must be set.
GptConfig MakeGptConfig(const TrainConfig& config);
MeshShape MakeMeshShape(const TrainConfig& config, int world_size);
DType MakeComputeDType(const TrainConfig& config);
ParameterBuffers::Options MakeBufferOptions(const TrainConfig& config, const Mesh& mesh);
AdamWOptions MakeAdamWOptions(const TrainConfig& config);
LossScaler::Options MakeLossScalerOptions(const TrainConfig& config);
LrSchedule MakeLrSchedule(const TrainConfig& config);
/// The layers of pipeline stage `stage`, balanced with embedding and head counted in.
LayerRange MakeLayerRange(const TrainConfig& config, int stage);
/// The config's schedule for one step, verified.
Schedule MakeVerifiedSchedule(const TrainConfig& config, int world_size);
/// The device that train.device names, for the rank `local_rank` of this host.
std::unique_ptr<Device> MakeDevice(const TrainConfig& config, int local_rank);

/// Floating-point operations that a token's training takes (see GptLayerCosts), with the scores
/// that a causal mask leaves: what recomputation repeats is not counted.
double TrainingFlopsPerToken(const TrainConfig& config);
/// The same with all scores, as publications count: 72 L h² (1 + s/6h + V/12hL) where the MLP is 4h
/// wide.
double ModelFlopsPerToken(const TrainConfig& config);

}  // namespace cairn
