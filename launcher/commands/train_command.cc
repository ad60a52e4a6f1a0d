#include "launcher/commands/train_command.h"

#include <omp.h>
#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/dry_run.h"
#include "launcher/placement.h"
#include "launcher/prepare.h"
#include "launcher/run_config.h"
#include "launcher/stop_signal.h"
#include "launcher/trainer.h"
#include "parallel/agreement.h"
#include "parallel/device_world.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_communicator.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"

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

// The cores that this process may run on.
int UsableCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return CPU_COUNT(&cores);
}

// A thread for each core, unless the user decided otherwise.
void UseCores(double cores) {
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    omp_set_num_threads(std::max(1, static_cast<int>(cores + 1e-6)));
  }
}

// Ranks that run another program or another config would corrupt the result, or hang.
void CheckSameEverywhere(Communicator& world, const Program& program, const TrainConfig& config) {
  std::string program_digest;
  RunTogether(world, [&] {
    if (world.size() == 1) return;
    Xxh3Stream digest;
    const std::string bytes = ReadWholeFile(program.executable, uint64_t{1} << 32);
    digest.Update(std::as_bytes(std::span(bytes)));
    program_digest = digest.HexDigest();
  });
  const std::string mine = program_digest + fmt::format("{:016x}", ConfigDigest(config));
  const std::vector<std::string> all = world.AllGatherBytes(mine);
  for (int rank = 0; rank < world.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    const bool program_differs =
        all[rank].substr(0, program_digest.size()) != all[0].substr(0, program_digest.size());
    throw CollectiveError(
        ErrorKind::kUsage, fmt::format("rank {}", rank),
        program_differs
            ? "runs another build of cairn than rank 0; install the same program on every host"
            : "has another config than rank 0; give every rank the same CONFIG and overrides");
  }
}

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

int TrainUnderMpi(const Program& program, const TrainRequest& request) {
  try {
    CheckLauncher();
  } catch (const Error& error) {
    if (IsFirstTask()) ReportError(error);
    return error.exit_status();
  }
  // Before MPI starts threads of its own, which would take the signals with their default effect.
  StopSignal stop;
  MpiSession session(program.argc, program.argv);
  // An error of one rank alone leaves the others waiting: the job is ended for all.
  try {
    CheckLaunchedWorld(session.size());
    UseCores(session.cores());
    const std::unique_ptr<Communicator> world = session.World();
    try {
      const std::vector<RankPlace> places =
          GatherPlaces(*world, session.local_rank(), omp_get_max_threads());
      if (world->rank() == 0) fmt::print(stderr, "{}\n", FormatPlaces(places));
      return TrainOnWorld(*world, session.local_rank(), stop, program, request);
    } catch (const CollectiveError& error) {
      if (world->rank() == 0) ReportError(error);
      return error.exit_status();
    }
  } catch (const Error& error) {
    if (session.size() == 1) {
      ReportError(error);
      return error.exit_status();
    }
    ReportError(Error(error.kind(), fmt::format("rank {}: {}", session.rank(), error.where()),
                      error.message()));
    session.Abort(error.exit_status());
  } catch (const std::exception& error) {
    ReportError(Error(ErrorKind::kInternal, fmt::format("rank {}", session.rank()), error.what()));
    session.Abort(kExitRunFailed);
  }
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
    UseCores(UsableCores());
    return DryRun(request.load(), arguments.world_size);
  }
  if (LaunchedByMpi()) return TrainUnderMpi(program, request);
  UseCores(UsableCores());
  StopSignal stop;
  const std::unique_ptr<Communicator> world = NewSingleCommunicator();
  return TrainOnWorld(*world, 0, stop, program, request);
}

}  // namespace

int FailTogether(const Error& error, const Program& program) {
  if (LaunchedByMpi()) {
    return TrainUnderMpi(program, {false, [&]() -> LoadedConfig { throw Error(error); }});
  }
  ReportError(error);
  return error.exit_status();
}

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
