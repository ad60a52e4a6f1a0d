#include "launcher/commands/bench_command.h"

#include "launcher/commands/bench_subcommands.h"

namespace cairn {

void AddBenchCommand(CLI::App& app, const Program& program, int& exit_status) {
  CLI::App* const bench = app.add_subcommand("bench", "measure this machine, and training on it");
  bench->require_subcommand(1);
  AddBenchStep(*bench, program, exit_status);
  AddBenchCollective(*bench, program, exit_status);
  AddBenchMatmul(*bench);
  AddBenchAttention(*bench);
  AddBenchNorm(*bench);
  AddBenchAdamW(*bench);
}

}  // namespace cairn
