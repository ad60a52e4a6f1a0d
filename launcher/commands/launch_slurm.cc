#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "launcher/commands/arguments.h"
#include "launcher/commands/launch_actions.h"
#include "launcher/factories.h"
#include "launcher/launch/sbatch.h"
#include "launcher/launch/slurm.h"
#include "launcher/run_config.h"
#include "runtime/base/shell.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

struct SlurmArguments {
  LaunchedConfig config;
  SlurmOptions options;
  bool submit = false;
};

// The line that the user typed.
std::string CommandLine(const Program& program) {
  std::vector<std::string> words = {"cairn"};
  words.insert(words.end(), *program.argv + 1, *program.argv + *program.argc);
  std::string line = ShellLine(words);
  // It becomes a comment of one line.
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return line;
}

// What the command line leaves to the config and to habit.
void FillIn(SlurmOptions& options, const std::string& run_dir) {
  if (options.tasks_per_node == 0) options.tasks_per_node = options.gpus_per_node;
  if (options.tasks_per_node == 0) {
    Throw(ErrorKind::kUsage, "cairn launch slurm",
          "--gpus-per-node or --ntasks-per-node is required: the ranks of each node");
  }
  if (options.signal_seconds == 0) {
    // Time for a step and a save, but most of a short job is for training.
    constexpr int64_t kEnough = 300;
    options.signal_seconds = static_cast<int>(
        std::clamp<int64_t>(ParseTimeLimit(options.time) / 4, int64_t{1}, kEnough));
  }
  if (options.job_name.empty()) {
    const std::string name =
        fs::path(fs::absolute(run_dir).lexically_normal() / "").parent_path().filename();
    for (const char c : name) {
      const bool plain =
          std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
      options.job_name += plain ? c : '_';
    }
  }
  if (options.output.empty()) {
    for (const char c : SlurmDirectory(run_dir))
      options.output += c == '%' ? "%%" : std::string(1, c);
    options.output += options.array > 0 ? "/%A_%a.log" : "/%A.log";
  }
  options.as_root = geteuid() == 0;
}

// Two jobs in one run folder would overwrite each other's checkpoints.
void RefuseSecondJob(const std::string& run_dir) {
  const std::optional<SlurmJob> job = RecallJob(run_dir);
  if (!job) return;
  for (const SlurmState& state : QueryJob(job->id)) {
    if (!state.active()) continue;
    Throw(ErrorKind::kUsage, run_dir,
          "its job {} is {}; end it first (cairn launch cancel {}), or set another run_dir",
          state.id, state.state, ShellQuoted(run_dir));
  }
}

int LaunchSlurm(SlurmArguments arguments, const Program& program) {
  LoadedConfig loaded = arguments.config.Load(program);
  SlurmOptions& options = arguments.options;
  ValidateConfig(loaded, std::nullopt);
  RequireRunInputs(loaded);
  const std::string run_dir = loaded.config.run_dir();
  FillIn(options, run_dir);
  CheckSlurmOptions(options);
  ResolveRunConfig(loaded, options.ranks());
  if (arguments.submit) RefuseSecondJob(run_dir);

  SlurmScript script;
  script.run_dir = run_dir;
  script.load =
      loaded.config.checkpoint().load().empty() ? "auto" : loaded.config.checkpoint().load();
  script.layout = MakeMeshShape(loaded.config, options.ranks()).ToString();
  script.command = CommandLine(program);
  script.program = program.executable;
  script.directory = fs::current_path().string();

  // What was checked is what runs, also when the file is edited while the job waits.
  SlurmJob job;
  if (options.array == 0) job.run_dirs = {run_dir};
  for (int task = 0; task < options.array; ++task) {
    job.run_dirs.push_back(TaskRunDirectory(run_dir, task));
  }
  const int64_t seed = loaded.config.train().seed();
  for (size_t task = 0; task < job.run_dirs.size(); ++task) {
    TrainConfig config = loaded.config;
    config.set_run_dir(job.run_dirs[task]);
    config.mutable_train()->set_seed(seed + static_cast<int64_t>(task));
    MakeDirectories(SlurmDirectory(config.run_dir()));
    WriteFileAtomically(JobConfigPath(config.run_dir()), ConfigText(config));
    fs::remove(JoinPath(SlurmDirectory(config.run_dir()), "fruitless"));  // an earlier job's count
  }
  MakeDirectories(SlurmDirectory(run_dir));
  const std::string path = JobScriptPath(run_dir);
  WriteFileAtomically(path, SbatchScript(options, script));
  if (!arguments.submit) {
    fmt::print(stderr, "submit it with --submit, or: sbatch {}\n", ShellQuoted(path));
    fmt::print("{}\n", path);
    return kExitOk;
  }
  // The log's folder is the user's choice, and SLURM makes none.
  const std::string log = fs::absolute(options.output).lexically_normal().string();
  MakeDirectories(ParentDirectory(log));
  job.id = SubmitJob(path);
  job.log = log;
  for (std::string& directory : job.run_dirs)
    directory = fs::absolute(directory).lexically_normal();
  RememberJob(run_dir, job);
  fmt::print("{}\n", job.id);
  return kExitOk;
}

}  // namespace

void AddLaunchSlurm(CLI::App& launch, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<SlurmArguments>();
  SlurmOptions& options = arguments->options;
  options.tasks_per_node = 0;
  CLI::App* command = launch.add_subcommand(
      "slurm", "write a batch script for SLURM into the run folder, and submit it with --submit");
  AddConfigArgument(*command, arguments->config.name);
  auto add_number = [&](const char* name, int& value, int most, const char* help) {
    return command->add_option(name, value, help)->check(InRange(1, most))->type_name("N");
  };
  add_number("--nodes", options.nodes, 1 << 20, "nodes of the job")->required();
  CLI::Option* gpus =
      add_number("--gpus-per-node", options.gpus_per_node, 1024, "GPUs of a node, a rank each");
  add_number("--ntasks-per-node", options.tasks_per_node, 1 << 16, "ranks of a node without GPUs")
      ->excludes(gpus);
  add_number("--cpus-per-task", options.cpus_per_task, 1024, "cores of a rank");
  command->add_option("--time", options.time, "time limit; the job then saves and queues again")
      ->required()
      ->type_name("HH:MM:SS");
  command->add_option("--partition", options.partition, "partition (queue)")->type_name("NAME");
  command->add_option("--account", options.account, "account to charge")->type_name("NAME");
  command->add_option("--job-name", options.job_name, "unset: the run folder's name")
      ->type_name("NAME");
  add_number("--signal-seconds", options.signal_seconds, 65535,
             "save so many seconds before the limit; unset: 300, of short jobs a quarter");
  add_number("--array", options.array, 10000, "runs that differ in train.seed, as a job array");
  command->add_option("--container", options.container, "run in this image, by Apptainer")
      ->type_name("IMAGE");
  command->add_option("--output", options.output, "log file; unset: RUN_DIR/slurm/JOB.log")
      ->type_name("FILE");
  command->add_flag("--submit", arguments->submit, "submit it, and print the job's id");
  command->callback([=, &program, &exit_status] {
    arguments->config.overrides = command->remaining();
    exit_status = LaunchSlurm(*arguments, program);
  });
}

}  // namespace cairn
