#include <fmt/format.h>
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/commands/bench_measure.h"
#include "launcher/commands/bench_subcommands.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/mfu.h"
#include "launcher/run_config.h"
#include "launcher/run_ranks.h"
#include "launcher/train_engine.h"
#include "parallel/agreement.h"
#include "parallel/device_world.h"
#include "runtime/checkpoint/file.h"
#include "runtime/telemetry/format.h"

namespace cairn {
namespace {

struct StepArguments {
  std::string config;
  int warmup = 3;
  int steps = 10;
  std::string baseline;
  double tolerance = 10;  // percent
  bool json = false;
};

// What one rank sees of a step; what the slowest or all of them saw.
struct StepTimes {
  double seconds;
  double forward_backward;
  double wait;         // of `seconds`, for other ranks
  double matmul_rate;  // of one large product right after the step; summed over ranks
};

struct OpTime {
  std::string op;
  int64_t calls;
  double seconds;  // in one step
};

struct StepResult {
  std::string layout;
  std::string precision;
  std::string config_digest;
  int ranks = 1;
  int threads = 1;          // of each rank
  bool parts_known = true;  // what a step consists of; of a GPU's, the host sees the launches only
  StepTimes median{};
  double fastest = 0;
  double slowest = 0;
  double tokens_per_second = 0;
  double model_flops_per_second = 0;
  double forward_backward_flops_per_second = 0;
  std::optional<double> mfu;  // where the GPU's peak is known
  int64_t peak_memory = 0;    // of the largest rank, in tensors
  int64_t peak_resident = 0;  // of the largest rank's process
  std::vector<OpTime> ops;    // of rank 0, the longest first

  double OfMatmul(double flops) const { return flops / median.matmul_rate; }
};

// Any tokens will do: what a step costs does not depend on them.
void MakeSample(int64_t index, std::span<int32_t> tokens, int64_t vocab_size) {
  constexpr uint64_t kMultiplier = 6364136223846793005u;
  uint64_t state = static_cast<uint64_t>(index) + 1;
  for (int32_t& token : tokens) {
    state = state * kMultiplier + 1442695040888963407u;
    token = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab_size));
  }
}

StepTimes OverRanks(const std::vector<StepTimes>& ranks) {
  StepTimes all{};
  for (const StepTimes& rank : ranks) {
    all.seconds = std::max(all.seconds, rank.seconds);
    all.forward_backward = std::max(all.forward_backward, rank.forward_backward);
    all.wait += rank.wait / static_cast<double>(ranks.size());
    all.matmul_rate += rank.matmul_rate;
  }
  return all;
}

int64_t PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

std::vector<StepTimes> RunSteps(TrainEngine& engine, Communicator& world, Device& device,
                                const TrainConfig& config, const StepArguments& arguments,
                                OpClock& clock) {
  const int64_t vocab_size = config.model().vocab_size();
  const SampleReader sample = [=](int64_t index, std::span<int32_t> tokens) {
    MakeSample(index, tokens, vocab_size);
  };
  MatmulRate rate(MakeComputeDType(config), device.kind(), device.index());
  std::vector<StepTimes> times;
  for (int step = 0; step < arguments.warmup + arguments.steps; ++step) {
    const bool counts = step >= arguments.warmup;
    world.Barrier();
    const int64_t waited = world.wait_ns();
    device.set_op_clock(counts ? &clock : nullptr);
    StepTimes own{};
    own.seconds = SecondsOf([&] {
      own.forward_backward = engine.Step(sample).forward_backward_seconds;
      (void)engine.State();  // waits for weights that are gathered behind the next step
      device.compute_stream().Synchronize();
    });
    device.set_op_clock(nullptr);
    own.wait = static_cast<double>(world.wait_ns() - waited) * 1e-9;
    world.Barrier();
    own.matmul_rate = rate.Measure();
    const StepTimes all = OverRanks(GatherValues(world, own));
    if (counts) times.push_back(all);
  }
  return times;
}

StepResult MeasureStep(Communicator& world, int local_rank, const TrainConfig& config,
                       const StepArguments& arguments) {
  std::unique_ptr<Device> device;
  RunTogether(world, [&] { device = MakeDevice(config, local_rank); });
  const std::unique_ptr<Communicator> device_world = NewDeviceWorld(world, *device);
  const Mesh mesh(device_world != nullptr ? *device_world : world,
                  MakeMeshShape(config, world.size()));
  std::unique_ptr<TrainEngine> engine;
  RunTogether(world, [&] {
    engine = std::make_unique<TrainEngine>(config, mesh, *device);
    engine->Initialize();
  });
  engine->Publish();
  OpClock clock;
  const std::vector<StepTimes> times = RunSteps(*engine, world, *device, config, arguments, clock);

  StepResult result;
  result.layout = mesh.shape().ToString();
  result.precision = config.train().precision();
  result.config_digest = fmt::format("{:016x}", ConfigDigest(config));
  result.ranks = world.size();
  result.threads = omp_get_max_threads();
  result.parts_known = device->kind() == DeviceKind::kCpu;
  const auto median = [&](double StepTimes::*part) {
    std::vector<double> values(times.size());
    std::ranges::transform(times, values.begin(), part);
    return Median(std::move(values));
  };
  result.median = {median(&StepTimes::seconds), median(&StepTimes::forward_backward),
                   median(&StepTimes::wait), median(&StepTimes::matmul_rate)};
  const auto [fastest, slowest] = std::ranges::minmax(times, {}, &StepTimes::seconds);
  result.fastest = fastest.seconds;
  result.slowest = slowest.seconds;
  const auto tokens =
      static_cast<double>(config.train().global_batch_size() * config.model().seq_length());
  const double flops = tokens * TrainingFlopsPerToken(config);
  result.tokens_per_second = tokens / result.median.seconds;
  result.model_flops_per_second = flops / result.median.seconds;
  result.forward_backward_flops_per_second = flops / result.median.forward_backward;
  result.mfu =
      ModelFlopsUtilization(config, result.tokens_per_second, world.size(), GpuModel(*device));
  struct Peaks {
    int64_t tensors;
    int64_t resident;
  };
  for (const Peaks& rank :
       GatherValues(world, Peaks{device->allocator().stats().peak_total, PeakResidentBytes()})) {
    result.peak_memory = std::max(result.peak_memory, rank.tensors);
    result.peak_resident = std::max(result.peak_resident, rank.resident);
  }
  for (const auto& [op, total] : clock.totals()) {
    result.ops.push_back({std::string(op), total.calls / arguments.steps,
                          std::chrono::duration<double>(total.time).count() / arguments.steps});
  }
  std::ranges::sort(result.ops, std::greater<>(), &OpTime::seconds);
  return result;
}

Json ToJson(const StepResult& result) {
  Json json = {{"tokens_per_second", result.tokens_per_second},
               {"iteration_time_ms", result.median.seconds * 1e3},
               {"model_flops_per_second", result.model_flops_per_second},
               {"peak_memory_bytes", result.peak_memory},
               {"peak_resident_bytes", result.peak_resident},
               {"iteration_time_ms_min", result.fastest * 1e3},
               {"iteration_time_ms_max", result.slowest * 1e3},
               {"matmul_flops_per_second", result.median.matmul_rate},
               {"of_matmul_rate", result.OfMatmul(result.model_flops_per_second)},
               {"precision", result.precision},
               {"ranks", result.ranks},
               {"threads", result.threads},
               {"config_digest", result.config_digest}};
  if (result.mfu) json["mfu"] = *result.mfu;
  if (!result.parts_known) return json;
  json["forward_backward_ms"] = result.median.forward_backward * 1e3;
  json["forward_backward_of_matmul_rate"] =
      result.OfMatmul(result.forward_backward_flops_per_second);
  json["wait_ms"] = result.median.wait * 1e3;
  Json& ops = json["ops"] = Json::array();
  for (const OpTime& op : result.ops) {
    ops.push_back({{"op", op.op},
                   {"calls", op.calls},
                   {"milliseconds", op.seconds * 1e3},
                   {"share", op.seconds / result.median.seconds}});
  }
  return json;
}

std::string ToText(const StepResult& result) {
  const StepTimes& median = result.median;
  std::string text = fmt::format(
      "{}, {} rank{} ({}), {} thread{} each\n"
      "step              {:.1f} ms ({:.1f} to {:.1f}), {} tokens/s\n"
      "rate              {:.1f} GFLOP/s, {:.0f}% of the {:.1f} of a large product in this run\n"
      "peak memory       {} of tensors, {} resident (largest rank)\n",
      result.precision, result.ranks, result.ranks == 1 ? "" : "s", result.layout, result.threads,
      result.threads == 1 ? "" : "s", median.seconds * 1e3, result.fastest * 1e3,
      result.slowest * 1e3, FormatThousands(static_cast<int64_t>(result.tokens_per_second)),
      result.model_flops_per_second * 1e-9, 100 * result.OfMatmul(result.model_flops_per_second),
      median.matmul_rate * 1e-9, FormatBytes(result.peak_memory),
      FormatBytes(result.peak_resident));
  if (result.mfu) text += fmt::format("mfu               {:.1f}%\n", 100 * *result.mfu);
  if (!result.parts_known) return text;
  text += fmt::format("forward, backward {:.1f} ms, {:.0f}%\n\n", median.forward_backward * 1e3,
                      100 * result.OfMatmul(result.forward_backward_flops_per_second));
  Table table({"op", ">calls", ">ms", ">of the step"});
  const auto add = [&](const std::string& op, const std::string& calls, double seconds) {
    table.AddRow({op, calls, fmt::format("{:.2f}", seconds * 1e3),
                  fmt::format("{:.1f}%", 100 * seconds / median.seconds)});
  };
  double rest = median.seconds - median.wait;
  for (const OpTime& op : result.ops) {
    add(op.op, fmt::to_string(op.calls), op.seconds);
    rest -= op.seconds;
  }
  if (result.ranks > 1) add("waiting for other ranks", "", median.wait);
  add("all else", "", std::max(rest, 0.0));
  return text + table.Render();
}

// An earlier result, to hold a new one against.
class Baseline {
 public:
  explicit Baseline(std::string path) : path_(std::move(path)) {
    constexpr uint64_t kMaxBytes = 1 << 20;
    json_ = Json::parse(ReadWholeFile(path_, kMaxBytes), nullptr, /*allow_exceptions=*/false);
    if (!json_.is_object()) Refuse("is not the JSON of an earlier `cairn bench step --json`");
    for (const char* key : {"tokens_per_second", "peak_memory_bytes", "ranks", "threads"}) {
      Number(key);
    }
  }

  // Whether `now` is as good, but for `tolerance` percent. Says on standard error what it compares.
  bool Holds(const StepResult& now, double tolerance) const {
    if (json_.value("config_digest", Json()) != now.config_digest) {
      Refuse("was measured with another config");
    }
    if (Number("ranks") != now.ranks || Number("threads") != now.threads) {
      Refuse(fmt::format("was measured with {:g} ranks of {:g} threads, this is {} of {}",
                         Number("ranks"), Number("threads"), now.ranks, now.threads));
    }
    const double speed = now.tokens_per_second / Number("tokens_per_second");
    const double memory = static_cast<double>(now.peak_memory) / Number("peak_memory_bytes");
    const bool holds = speed >= 1 - tolerance / 100 && memory <= 1 + tolerance / 100;
    fmt::print(stderr,
               "{}: {:.1f}% of the baseline's tokens/s, {:.1f}% of its memory ({}: {:g}%)\n",
               holds ? "holds" : "regression", 100 * speed, 100 * memory, "tolerance", tolerance);
    return holds;
  }

 private:
  [[noreturn]] void Refuse(const std::string& why) const {
    throw Error(ErrorKind::kUsage, path_, why);
  }
  double Number(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || !found->is_number() || found->get<double>() <= 0) {
      Refuse(fmt::format("has no number above 0 under \"{}\"", key));
    }
    return found->get<double>();
  }

  std::string path_;
  Json json_;
};

int BenchStep(const StepArguments& arguments, const std::vector<std::string>& overrides,
              const Program& program) {
  return RunRanks(program, [&](Communicator& world, int local_rank) {
    LoadedConfig loaded;
    RunTogether(world, [&] {
      loaded = LoadConfig(arguments.config, ParseOverrides(overrides), program.sources);
      ResolveShapeConfig(loaded, world.size());
    });
    CheckSameEverywhere(world, program, loaded.config);
    std::optional<Baseline> baseline;
    RunOnFirst(world, [&] {
      if (!arguments.baseline.empty()) baseline.emplace(arguments.baseline);
      return std::string();
    });
    const StepResult result = MeasureStep(world, local_rank, loaded.config, arguments);
    const std::string verdict = RunOnFirst(world, [&]() -> std::string {
      const bool holds = !baseline || baseline->Holds(result, arguments.tolerance);
      if (arguments.json) {
        PrintJson(ToJson(result));
      } else {
        PrintText(ToText(result));
      }
      return holds ? "holds" : "regression";
    });
    return verdict == "holds" ? kExitOk : kExitCheckFailed;
  });
}

}  // namespace

void AddBenchStep(CLI::App& bench, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<StepArguments>();
  CLI::App* const command =
      bench.add_subcommand("step", "training steps of a config, beside the machine's best");
  command
      ->add_option("CONFIG", arguments->config, "a config file, - for standard input, or a preset")
      ->required()
      ->type_name("");
  command->add_option("--warmup", arguments->warmup, "steps that are not counted")
      ->check(InRange(0, 100000))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--steps", arguments->steps, "steps whose median is reported")
      ->check(InRange(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  CLI::Option* const baseline =
      command
          ->add_option("--baseline", arguments->baseline,
                       "the JSON of an earlier run: exit status 1 where this one is worse")
          ->type_name("FILE");
  command
      ->add_option("--tolerance", arguments->tolerance,
                   "how much fewer tokens/s or more memory is no regression")
      ->needs(baseline)
      ->check(InRange(0.0, 100.0))
      ->type_name("PERCENT")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "print JSON");
  command->allow_extras();
  command->footer(
      "Any config field can follow CONFIG, as section.field=value or as --field-name value. No "
      "data\n"
      "is read: run_dir and data_path need not be set.");
  command->callback([=, &program, &exit_status] {
    exit_status = BenchStep(*arguments, command->remaining(), program);
  });
}

}  // namespace cairn
