#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/config/config.h"
#include "runtime/device/device.h"

namespace cairn {

/// Matrix FLOP/s on paper, without sparsity, of the GPU that its driver calls `model` in
/// `precision` (train.precision). Nothing where it isn't known: for other GPUs, and for fp32, whose
/// rate depends on the kind of product.
std::optional<double> PeakFlopsPerSecond(std::string_view model, std::string_view precision);

/// Model FLOPs utilisation: ModelFlopsPerToken at `tokens_per_second` over the peak of `ranks` GPUs
/// of a model, one for each rank.
std::optional<double> ModelFlopsUtilization(const TrainConfig& config, double tokens_per_second,
                                            int ranks, std::string_view model);

/// The model of the GPU that `device` is; "" for another device.
std::string GpuModel(const Device& device);

}  // namespace cairn
