#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glog/logging.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "launcher/commands/bench_command.h"
#include "launcher/commands/ckpt_command.h"
#include "launcher/commands/data_command.h"
#include "launcher/commands/doctor_command.h"
#include "launcher/commands/eval_command.h"
#include "launcher/commands/generate_command.h"
#include "launcher/commands/launch_command.h"
#include "launcher/commands/plan_command.h"
#include "launcher/commands/train_command.h"
#include "launcher/program.h"
#include "launcher/run_ranks.h"
#include "runtime/config/text.h"

namespace cairn {

namespace {

// What the libraries log goes to standard error, and only what a user should know. A file that
// grows over a limit is an error of that write, not the end of the process.
void PrepareProcess(const char* name) {
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_WARNING;
  google::InitGoogleLogging(name);
  if (std::signal(SIGXFSZ, SIG_IGN) == SIG_ERR) ThrowErrno(errno, "signal", "SIGXFSZ");
}

// A mistake in the command line, told as every other error is.
Error UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* command = &app;
  std::string words = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    words += " " + command->get_name();
  }
  std::vector<std::string> names;
  for (const CLI::App* sub : command->get_subcommands({})) names.push_back(sub->get_name());
  const std::vector<std::string> unknown = command->remaining();
  if (names.empty() || unknown.empty()) {
    return {ErrorKind::kUsage, "command line",
            fmt::format("{} (see `{} --help`)", error.what(), words)};
  }
  return {ErrorKind::kUsage, "command line",
          fmt::format("`{}` has no command {}{} (commands: {})", words, Quoted(unknown.front()),
                      DidYouMean(unknown.front(), names), fmt::join(names, ", "))};
}

// Whether a launcher's other ranks have a part in the command, or in refusing it.
bool NeedsAllRanks(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "train";
  const std::string_view part = argc > 2 ? argv[2] : "";
  return command == "train" || (command == "bench" && (part == "step" || part == "collective"));
}

int Main(int argc, char** argv) {
  PrepareProcess(argv[0]);
  Program program;
  program.argc = &argc;
  program.argv = &argv;
  program.name = argv[0];
  program.executable = std::filesystem::read_symlink("/proc/self/exe").string();
  UseBundledOpenMpi(program.executable);
  program.sources.configs_dir = FindConfigsDir(program.executable);

  const bool alone = !NeedsAllRanks(argc, argv);
  if (alone && IsSpareRank()) return kExitOk;
  int exit_status = kExitOk;
  CLI::App app("Cairn trains GPT-scale Transformers over many ranks.", "cairn");
  app.require_subcommand(1);
  app.set_help_flag("-h,--help", "print this help and exit");
  app.set_version_flag("--version", "cairn " CAIRN_VERSION, "print the version and exit");
  AddTrainCommand(app, program, exit_status);
  AddCkptCommand(app, exit_status);
  AddDataCommand(app, exit_status);
  AddEvalCommand(app, program, exit_status);
  AddGenerateCommand(app, program, exit_status);
  AddLaunchCommand(app, program, exit_status);
  AddPlanCommand(app);
  AddBenchCommand(app, program, exit_status);
  AddDoctorCommand(app, exit_status);
  app.footer(
      "Several ranks: mpirun -n 4 cairn train CONFIG --tensor-model-parallel-size 2 ...\n"
      "Exit status: 0 fine, 1 a check says no, 2 usage or config error, 3 the run failed,\n"
      "4 interrupted after a clean save.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    exit_status = app.exit(success);
  } catch (const CLI::ParseError& error) {
    const Error usage_error = UsageError(app, error);
    if (!alone) return FailTogether(usage_error, program);
    throw usage_error;
  }
  // A full disk or a closed pipe must not swallow what was asked for.
  if (std::cout.flush().fail() || std::ferror(stdout) != 0 || std::fflush(stdout) != 0) {
    ThrowErrno(errno, "write", "standard output");
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
  } catch (const std::system_error& error) {
    cairn::ReportError(cairn::Error(cairn::ErrorKind::kIo, "operating system", error.what()));
    return cairn::kExitRunFailed;
  } catch (const std::bad_alloc&) {
    cairn::ReportError(
        cairn::Error(cairn::ErrorKind::kOutOfMemory, "host memory", "no more of it was granted"));
    return cairn::kExitRunFailed;
  } catch (const std::exception& error) {
    cairn::ReportError(cairn::Error(cairn::ErrorKind::kInternal, "unexpected", error.what()));
    return cairn::kExitRunFailed;
  }
}
