#include "launcher/reshard.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>

#include "launcher/checkpoint_fit.h"
#include "launcher/train_engine.h"
#include "parallel/checkpoint.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/rewrite.h"
#include "runtime/checkpoint/shard_writer.h"

namespace cairn {
namespace {

constexpr int64_t kMaxRanks = 1 << 20;
// What writing takes beside the section: a block on its way in and one on its way out, and, for
// each part and for each byte of a header, its descriptions in files, manifest and JSON.
constexpr uint64_t kWriterBytes = (uint64_t{8} << 20) + 2 * kCrcBlockBytes;
constexpr uint64_t kBytesOfAPart = 3072;
constexpr uint64_t kBytesOfAHeaderByte = 12;

uint64_t RoundUpToMiB(uint64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

// The most that this process ever had in memory. (getrusage's figure counts what its parent had,
// too.)
uint64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("VmHWM:")) continue;
    std::istringstream words(line.substr(6));
    uint64_t kib = 0;
    words >> kib;
    return kib * 1024;
  }
  Throw(ErrorKind::kIo, "/proc/self/status", "has no line VmHWM");
}

// The checkpoint's config in the new layout, checked.
TrainConfig NewConfig(const Manifest& manifest, const ReshardRequest& request) {
  const std::string where = request.checkpoint + ": config";
  ConfigOf(manifest, request.checkpoint);  // a config that does not parse is the checkpoint's fault
  LoadedConfig loaded = ParseConfig({where, manifest.config_text}, request.layout);
  ValidateConfig(loaded, std::nullopt);
  const TrainConfig& config = loaded.config;
  if (!config.model().has_vocab_size() ||
      static_cast<size_t>(config.model().num_layers()) > manifest.tensors.size()) {
    Throw(ErrorKind::kCheckpoint, where, "is not that of the {} tensors in the checkpoint",
          manifest.tensors.size());
  }
  const int64_t ranks = ModelParallelSize(config) * request.data_parallel_size;
  if (ranks > kMaxRanks) {
    Throw(ErrorKind::kUsage, "--data-parallel-size", "{} makes {} ranks, at most {} are accepted",
          request.data_parallel_size, ranks, kMaxRanks);
  }
  ValidateConfig(loaded, static_cast<int>(ranks));
  return config;
}

// What each rank of a layout saves, by the rank's own engine.
class Planner {
 public:
  Planner(const TrainConfig& config, const MeshShape& shape, const CheckpointReader& reader)
      : config_(config), shape_(shape), reader_(reader) {}

  std::vector<ShardPlan> Run() {
    std::vector<ShardPlan> shards;
    for (int rank = 0; rank < shape_.world(); ++rank) {
      std::vector<TensorPart> parts = PartsOf(rank);
      if (!parts.empty()) shards.push_back({ShardFileName(rank), std::move(parts)});
    }
    CheckShardPlans(reader_, shards);
    return shards;
  }

  // How the manifest of a run in this layout describes it.
  const std::map<std::string, std::string>& layout() const { return layout_; }

 private:
  std::vector<TensorPart> PartsOf(int rank) {
    std::vector<CommRecord> log;
    const std::unique_ptr<Device> device = NewDevice(DeviceKind::kMeta);
    const Mesh mesh = Mesh::Meta(rank, shape_, &log);
    TrainEngine engine(config_, mesh, *device);
    layout_ = engine.Describe().layout;
    std::vector<TensorPart> parts;
    for (const StatePiece& piece : engine.State()) {
      if (!piece.writes || IsUnstoredZero(reader_, piece.kind)) continue;
      CheckPieceFits(reader_, piece);
      const ShardSpec& shard = piece.parameter->shard;
      for (const auto& rectangle : shard.FlatRange(piece.begin, piece.begin + piece.data.numel())) {
        const auto offset = rectangle.offset.extents();
        const auto extent = rectangle.extent.extents();
        parts.push_back({piece.parameter->name,
                         piece.kind,
                         {offset.begin(), offset.end()},
                         {extent.begin(), extent.end()}});
      }
    }
    return parts;
  }

  const TrainConfig& config_;
  const MeshShape& shape_;
  const CheckpointReader& reader_;
  std::map<std::string, std::string> layout_;
};

// How much of the tensors may be held at a time.
uint64_t SectionBytes(const Manifest& manifest, const std::vector<ShardPlan>& shards,
                      uint64_t memory_limit) {
  uint64_t parts = 0;
  for (const ShardPlan& shard : shards) parts += shard.parts.size();
  uint64_t header = 0;
  for (const FileEntry& file : manifest.files) header = std::max(header, file.header_bytes);
  const uint64_t taken =
      PeakResidentBytes() + kWriterBytes + parts * kBytesOfAPart + header * kBytesOfAHeaderByte;
  if (memory_limit < taken + kCrcBlockBytes) {
    Throw(ErrorKind::kUsage, "--memory-limit",
          "{} MiB is too little, {} MiB is the least that works", memory_limit >> 20,
          RoundUpToMiB(taken + kCrcBlockBytes));
  }
  return memory_limit - taken;
}

}  // namespace

ReshardReport Reshard(const ReshardRequest& request) {
  CheckpointReader reader(request.checkpoint);
  const TrainConfig config = NewConfig(reader.manifest(), request);
  const int ranks = static_cast<int>(ModelParallelSize(config)) * request.data_parallel_size;
  ReshardReport report;
  report.shape = MakeMeshShape(config, ranks);
  Planner planner(config, report.shape, reader);
  const std::vector<ShardPlan> shards = planner.Run();

  Manifest description = reader.manifest();
  description.tensors.clear();
  description.files.clear();
  description.config_text = ConfigText(config);
  description.layout = planner.layout();
  const Manifest written =
      RewriteCheckpoint(reader, std::move(description), shards, request.target,
                        SectionBytes(reader.manifest(), shards, request.memory_limit));
  report.files = written.files.size();
  for (const FileEntry& file : written.files) report.bytes_written += file.size;
  report.bytes_read = reader.bytes_read();
  report.peak_memory = PeakResidentBytes();
  return report;
}

}  // namespace cairn
