#pragma once

#include <CLI/CLI.hpp>

#include "launcher/program.h"

// The commands under `cairn bench`.

namespace cairn {

void AddBenchStep(CLI::App& bench, const Program& program, int& exit_status);
void AddBenchCollective(CLI::App& bench, const Program& program, int& exit_status);
// Ops, on this process alone.
void AddBenchMatmul(CLI::App& bench);
void AddBenchAttention(CLI::App& bench);
void AddBenchNorm(CLI::App& bench);
void AddBenchAdamW(CLI::App& bench);

}  // namespace cairn
