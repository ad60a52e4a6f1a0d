#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "launcher/commands/arguments.h"
#include "launcher/commands/launch_actions.h"
#include "launcher/launch/mpirun.h"
#include "launcher/launch/supervisor.h"
#include "launcher/run_config.h"
#include "runtime/base/shell.h"
#include "runtime/base/subprocess.h"

namespace cairn {
namespace {

struct MpirunArguments {
  LaunchedConfig config;
  std::string hosts;
  int ranks = 0;
  int threads = 0;
  std::string interface;
  bool run = false;
  int max_restarts = 0;
};

int LaunchMpirun(const MpirunArguments& arguments, const Program& program) {
  LoadedConfig loaded = arguments.config.Load(program);
  ValidateConfig(loaded, std::nullopt);
  MpirunOptions options;
  if (!arguments.hosts.empty()) {
    options.hosts = ParseHosts(arguments.hosts);
    options.environment = RankEnvironment();
  }
  options.ranks = arguments.ranks;
  if (options.ranks == 0) {
    // As many as there is room for; on this host, whose room nobody named, one replica.
    options.ranks = options.hosts.empty() ? static_cast<int>(ModelParallelSize(loaded.config))
                                          : TotalSlots(options.hosts);
  }
  ResolveRunConfig(loaded, options.ranks);
  const int slots = TotalSlots(options.hosts);
  options.oversubscribe = options.hosts.empty() || options.ranks > slots;
  if (!options.hosts.empty() && options.oversubscribe) {
    fmt::print(stderr, "{} ranks on hosts for {}: some will share cores and devices\n",
               options.ranks, slots);
  }
  options.threads = arguments.threads;
  options.interface = arguments.interface;
  options.as_root = geteuid() == 0;

  std::vector<std::string> words = MpirunWords(options);
  words.insert(words.end(), {program.executable, "train", arguments.config.name});
  words.insert(words.end(), arguments.config.overrides.begin(), arguments.config.overrides.end());
  // A start after a failure goes on where the last one came to.
  if (arguments.max_restarts > 0) words.emplace_back("checkpoint.load=auto");
  if (!arguments.run) {
    fmt::print("{}\n", ShellLine(words));
    return kExitOk;
  }
  fmt::print(stderr, "{}\n", ShellLine(words));
  if (arguments.max_restarts == 0) BecomeProcess(words);
  RestartPolicy policy;
  policy.max_restarts = arguments.max_restarts;
  return Supervise(words, loaded.config.run_dir(), policy);
}

}  // namespace

void AddLaunchMpirun(CLI::App& launch, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<MpirunArguments>();
  CLI::App* command = launch.add_subcommand(
      "mpirun", "print the command that trains on these hosts, or run it with --run");
  AddConfigArgument(*command, arguments->config.name);
  command->add_option("--hosts", arguments->hosts, "hosts and their ranks; none: this host")
      ->type_name("A:8,B:8");
  command
      ->add_option("-n,--ranks", arguments->ranks,
                   "ranks in all; unset: those of the hosts, or of one replica on this host")
      ->check(InRange(1, 1 << 20))
      ->type_name("N");
  command
      ->add_option("--threads", arguments->threads,
                   "bind each rank to so many cores; unset: the ranks of a host share its cores")
      ->check(InRange(1, 1024))
      ->type_name("T");
  command
      ->add_option("--interface", arguments->interface,
                   "network between the hosts: an interface or a subnet")
      ->type_name("eth0|10.0.0.0/16");
  CLI::Option* run = command->add_flag("--run", arguments->run, "run it instead of printing it");
  command
      ->add_option("--max-restarts", arguments->max_restarts,
                   "start it again so often when it fails, from its newest good checkpoint")
      ->check(InRange(0, 1000000))
      ->type_name("N")
      ->needs(run);
  command->callback([=, &program, &exit_status] {
    arguments->config.overrides = command->remaining();
    exit_status = LaunchMpirun(*arguments, program);
  });
}

}  // namespace cairn
