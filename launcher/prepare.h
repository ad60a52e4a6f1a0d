#pragma once

#include "launcher/program.h"

namespace cairn {

/// Makes the quickstart's dataset and tokenizer where they are missing, with the script beside the
/// presets. Throws Error(kData) with what to run by hand.
void PrepareQuickstartData(const TrainConfig& config, const Program& program);

}  // namespace cairn
