#include "launcher/dry_run.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "launcher/run_config.h"
#include "launcher/train_engine.h"
#include "runtime/base/error.h"
#include "runtime/telemetry/format.h"

namespace cairn {
namespace {

struct RankReport {
  MeshCoordinate coordinate;
  int64_t local_parameters = 0;
  MemoryStats memory;
  LayerRange layers;
};

RankReport RunRank(const TrainConfig& config, const MeshShape& shape,
                   const MeshCoordinate& coordinate,
                   std::map<std::string, int64_t>& global_parameters) {
  RankReport report;
  report.coordinate = coordinate;
  report.layers = MakeLayerRange(config, coordinate.pp);
  std::vector<CommRecord> log;
  const std::unique_ptr<Device> device = NewDevice(DeviceKind::kMeta);
  {
    const Mesh mesh = Mesh::Meta(RankOf(shape, coordinate), shape, &log);
    TrainEngine engine(config, mesh, *device);
    for (const Parameter* parameter : engine.parameters()) {
      global_parameters[parameter->name] = parameter->shard.global_shape.numel();
      report.local_parameters += parameter->shard.held.numel();
    }
    engine.Initialize();
    engine.Publish();
    engine.Step([](int64_t, std::span<int32_t>) {});
    report.memory = device->allocator().stats();
  }
  return report;
}

}  // namespace

int DryRun(LoadedConfig loaded, int world_size) {
  TrainConfig& config = loaded.config;
  ValidateConfig(loaded, std::nullopt);
  if (world_size == 0) world_size = static_cast<int>(ModelParallelSize(config));
  ResolveShapeConfig(loaded, world_size);
  const MeshShape shape = MakeMeshShape(config, world_size);
  std::map<std::string, int64_t> global_parameters;
  std::vector<RankReport> reports;
  // Data-parallel ranks are alike, and so are tensor-parallel ones but for the last, which may hold
  // fewer logical rows of the vocabulary.
  for (int pp = 0; pp < shape.pp; ++pp) {
    for (int tp : std::set<int>{0, shape.tp - 1}) {
      reports.push_back(RunRank(config, shape, {tp, 0, 0, pp}, global_parameters));
    }
  }
  int64_t total = 0;
  for (const auto& [name, numel] : global_parameters) total += numel;
  fmt::print("{} parameters, {} layers, {}, {} ranks: {}\n", FormatThousands(total),
             config.model().num_layers(), config.train().precision(), world_size, shape.ToString());
  fmt::print("bytes at the peak of one step of {} microbatches of {} × {} tokens, per rank:\n\n",
             NumMicrobatches(config, world_size), config.train().micro_batch_size(),
             config.model().seq_length());
  fmt::print("{:>5} {:>3} {:>10} {:>15} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}\n", "stage", "tp",
             "layers", "parameters", "weights", "gradients", "optimizer", "activations", "buffers",
             "total");
  auto bytes = [](const RankReport& report, MemoryCategory category) {
    return FormatBytes(report.memory.peak[static_cast<size_t>(category)]);
  };
  for (const RankReport& report : reports) {
    fmt::print(
        "{:>5} {:>3} {:>10} {:>15} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}\n",
        report.coordinate.pp, report.coordinate.tp,
        fmt::format("{}-{}", report.layers.first, report.layers.first + report.layers.count - 1),
        FormatThousands(report.local_parameters), bytes(report, MemoryCategory::kParameters),
        bytes(report, MemoryCategory::kGradients), bytes(report, MemoryCategory::kOptimizer),
        bytes(report, MemoryCategory::kActivations), bytes(report, MemoryCategory::kCommunication),
        FormatBytes(report.memory.peak_total));
  }
  return kExitOk;
}

}  // namespace cairn
