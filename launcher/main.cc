#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <filesystem>

#include "launcher/commands/ckpt_command.h"
#include "launcher/commands/data_command.h"
#include "launcher/commands/doctor_command.h"
#include "launcher/commands/eval_command.h"
#include "launcher/commands/generate_command.h"
#include "launcher/commands/train_command.h"
#include "launcher/program.h"

namespace cairn {

namespace {

int Main(int argc, char** argv) {
  Program program;
  program.argc = &argc;
  program.argv = &argv;
  program.name = argv[0];
  program.executable = std::filesystem::read_symlink("/proc/self/exe").string();
  program.sources.configs_dir = FindConfigsDir(program.executable);

  int exit_status = kExitOk;
  CLI::App app("Cairn trains GPT-scale Transformers over many ranks.", "cairn");
  app.require_subcommand(1);
  app.set_version_flag("--version", "cairn " CAIRN_VERSION);
  AddTrainCommand(app, program, exit_status);
  AddCkptCommand(app, exit_status);
  AddDataCommand(app, exit_status);
  AddEvalCommand(app, program, exit_status);
  AddGenerateCommand(app, program, exit_status);
  AddDoctorCommand(app, exit_status);
  app.footer(
      "Several ranks: mpirun -n 4 cairn train CONFIG --tensor-model-parallel-size 2 ...\n"
      "Exit status: 0 fine, 1 a check says no, 2 usage or config error, 3 the run failed,\n"
      "4 interrupted after a clean save.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return kExitUsage;
  }
  return exit_status;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  try {
    return cairn::Main(argc, argv);
  } catch (const cairn::Error& error) {
    cairn::ReportError(error);
    return error.exit_status();
  } catch (const std::exception& error) {
    cairn::ReportError(cairn::Error(cairn::ErrorKind::kInternal, "unexpected", error.what()));
    return cairn::kExitRunFailed;
  }
}
