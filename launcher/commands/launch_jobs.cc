#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/commands/arguments.h"
#include "launcher/commands/launch_actions.h"
#include "launcher/launch/slurm.h"
#include "runtime/base/subprocess.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

struct JobArguments {
  std::string run_dir;
  int task = 0;
  bool follow = false;
  bool json = false;
};

SlurmJob Recall(const std::string& run_dir) {
  if (std::optional<SlurmJob> job = RecallJob(run_dir)) return std::move(*job);
  Throw(ErrorKind::kUsage, run_dir,
        "no job was submitted from here; `cairn launch slurm CONFIG ... --submit` does that");
}

// The iteration of the newest committed checkpoint; 0 where there is none.
int64_t NewestCheckpoint(const std::string& run_dir) {
  int64_t newest = 0;
  if (!std::filesystem::exists(run_dir)) return newest;
  for (const CheckpointInfo& info : ListCheckpoints(run_dir)) {
    if (info.state == CheckpointState::kCommitted) newest = std::max(newest, info.iteration);
  }
  return newest;
}

int Status(const JobArguments& arguments) {
  const SlurmJob job = Recall(arguments.run_dir);
  const std::vector<SlurmState> states = QueryJob(job.id);
  if (arguments.json) {
    Json out = {
        {"job", job.id}, {"log", job.log}, {"tasks", Json::array()}, {"runs", Json::array()}};
    for (const SlurmState& state : states) {
      out["tasks"].push_back({{"id", state.id},
                              {"state", state.state},
                              {"elapsed", state.elapsed},
                              {"time_limit", state.limit},
                              {"reason", state.reason}});
    }
    for (const std::string& run : job.run_dirs) {
      out["runs"].push_back({{"run_dir", run}, {"checkpoint_iteration", NewestCheckpoint(run)}});
    }
    fmt::print("{}\n", out.dump());
    return kExitOk;
  }
  if (states.empty()) fmt::print("job {}: it has ended, and SLURM no longer knows it\n", job.id);
  for (const SlurmState& state : states) {
    fmt::print("job {}: {} {}, {} of {}\n", state.id, state.state, state.reason, state.elapsed,
               state.limit);
  }
  for (const std::string& run : job.run_dirs) {
    const int64_t iteration = NewestCheckpoint(run);
    fmt::print("{}: {}\n", run,
               iteration == 0 ? "no checkpoint yet"
                              : fmt::format("newest checkpoint of iteration {}", iteration));
  }
  return kExitOk;
}

int Cancel(const JobArguments& arguments) {
  const SlurmJob job = Recall(arguments.run_dir);
  CancelJob(job.id);
  fmt::print(stderr, "job {}: asked to end; a run that trains saves first\n", job.id);
  return kExitOk;
}

int Logs(const JobArguments& arguments) {
  const SlurmJob job = Recall(arguments.run_dir);
  if (arguments.task >= static_cast<int>(job.run_dirs.size())) {
    Throw(ErrorKind::kUsage, "--task", "job {} has tasks 0 to {}", job.id, job.run_dirs.size() - 1);
  }
  const std::string log = ExpandOutput(job.log, job.id, arguments.task);
  if (!arguments.follow && !std::filesystem::exists(log)) {
    Throw(ErrorKind::kIo, log, "is not there: job {} has not begun", job.id);
  }
  std::vector<std::string> words = {"tail", "--lines=+1"};
  if (arguments.follow) words.insert(words.end(), {"--follow=name", "--retry"});
  words.insert(words.end(), {"--", log});
  BecomeProcess(words);
}

}  // namespace

void AddLaunchJobs(CLI::App& launch, int& exit_status) {
  auto arguments = std::make_shared<JobArguments>();
  auto add = [&](const char* name, const char* help, int (*action)(const JobArguments&)) {
    CLI::App* command = launch.add_subcommand(name, help);
    command->add_option("RUN_DIR", arguments->run_dir, "a run folder")->required()->type_name("");
    command->callback([=, &exit_status] { exit_status = action(*arguments); });
    return command;
  };
  add("status", "what SLURM says of a run's job, and how far it is", Status)
      ->add_flag("--json", arguments->json, "print JSON");
  add("cancel", "end a run's job, after a save", Cancel);
  CLI::App* logs = add("logs", "print what a run's job has written", Logs);
  logs->add_flag("--follow", arguments->follow, "go on printing what it writes");
  logs->add_option("--task", arguments->task, "task of a job array")
      ->check(AtLeast(0))
      ->type_name("N")
      ->capture_default_str();
}

}  // namespace cairn
