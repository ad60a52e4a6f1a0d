#include "launcher/commands/train_command.h"

#include <functional>
#include <memory>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/dry_run.h"
#include "launcher/prepare.h"
#include "launcher/run_config.h"
#include "launcher/run_ranks.h"
#include "launcher/stop_signal.h"
#include "launcher/trainer.h"
#include "parallel/agreement.h"
#include "parallel/device_world.h"

namespace cairn {
namespace {

struct TrainArguments {
  std::string config;
  bool dry_run = false;
  int world_size = 0;  // of a dry run
};

// What to train.
struct TrainRequest {
  bool quickstart = false;  // its data is made when it is not there
  std::function<LoadedConfig()> load;
};

int TrainOnWorld(Communicator& world, int local_rank, StopSignal& stop, const Program& program,
                 const TrainRequest& request) {
  // Only the dataset and its tokenizer are made here; the script says how, when it cannot.
  RunOnFirst(world, [&] {
    if (request.quickstart) PrepareQuickstartData(request.load().config, program);
    return std::string();
  });
  LoadedConfig loaded;
  RunTogether(world, [&] {
    loaded = request.load();
    ResolveRunConfig(loaded, world.size());
  });
  CheckSameEverywhere(world, program, loaded.config);
  std::unique_ptr<Device> device;
  RunTogether(world, [&] { device = MakeDevice(loaded.config, local_rank); });
  const std::unique_ptr<Communicator> device_world = NewDeviceWorld(world, *device);
  const Mesh mesh(device_world != nullptr ? *device_world : world,
                  MakeMeshShape(loaded.config, world.size()));
  Trainer trainer(loaded, mesh, *device, stop, program.name);
  return trainer.Run();
}

int Train(const TrainArguments& arguments, const std::vector<std::string>& overrides,
          const Program& program) {
  TrainRequest request;
  request.quickstart = arguments.config.empty();
  // A run of its own, that goes on where it stopped: quickstart.sh keeps its run in the preset's
  // folder.
  std::vector<std::string> words;
  if (request.quickstart) words = {"run_dir=runs/quickstart-one-rank", "checkpoint.load=auto"};
  words.insert(words.end(), overrides.begin(), overrides.end());
  request.load = [&] {
    return LoadConfig(request.quickstart ? "quickstart" : arguments.config, ParseOverrides(words),
                      program.sources);
  };
  if (arguments.dry_run) {
    if (IsSpareRank()) return kExitOk;
    UseUsableCores();
    return DryRun(request.load(), arguments.world_size);
  }
  StopSignal stop;
  return RunRanks(program, [&](Communicator& world, int local_rank) {
    return TrainOnWorld(world, local_rank, stop, program, request);
  });
}

}  // namespace

void AddTrainCommand(CLI::App& app, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "train a model, or go on training it");
  command
      ->add_option("CONFIG", arguments->config,
                   "a config file, - for standard input, or a preset; none: the quickstart")
      ->type_name("");
  CLI::Option* dry_run =
      command->add_flag("--dry-run", arguments->dry_run,
                        "only say what each rank would hold, in parameters and bytes");
  command->add_option("--world-size", arguments->world_size, "number of ranks of the dry run")
      ->needs(dry_run)
      ->check(InRange(1, 1 << 20))
      ->type_name("N");
  command->allow_extras();
  command->footer(
      "Any config field can follow CONFIG, as section.field=value or as --field-name value.");
  command->callback([=, &program, &exit_status] {
    exit_status = Train(*arguments, command->remaining(), program);
  });
}

}  // namespace cairn
