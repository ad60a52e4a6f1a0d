#include "parallel/checkpoint.h"

#include <algorithm>

#include "parallel/agreement.h"
#include "runtime/checkpoint/store.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

std::vector<int64_t> ToVector(const Shape& shape) {
  return {shape.extents().begin(), shape.extents().end()};
}

ShardResult WriteShard(const std::string& directory, int rank, std::vector<ChunkSource> chunks,
                       const std::stop_token& stop) {
  ShardWriter writer(directory, ShardFileName(rank));
  for (ChunkSource& chunk : chunks) writer.Add(std::move(chunk));
  return writer.Write(stop);
}

}  // namespace

bool OnHost(const std::vector<StatePiece>& pieces) {
  return std::ranges::none_of(pieces, [](const StatePiece& piece) {
    return piece.writes && piece.data.device().kind() != DeviceKind::kCpu;
  });
}

std::vector<StatePiece> CopyToHost(const std::vector<StatePiece>& pieces, Device& host,
                                   Tensor& memory) {
  int64_t elements = 0;
  for (const StatePiece& piece : pieces) elements += piece.writes ? piece.data.numel() : 0;
  if (!memory.defined() || memory.numel() < elements) {
    memory = Tensor();  // before the new one is taken
    memory = Tensor::Empty({elements}, DType::kFloat32, host, MemoryCategory::kOptimizer);
  }
  std::vector<StatePiece> copies;
  int64_t begin = 0;
  for (const StatePiece& piece : pieces) {
    if (!piece.writes) continue;
    StatePiece& copy = copies.emplace_back(piece);
    copy.data = memory.Narrow(0, begin, piece.data.numel());
    begin += piece.data.numel();
    Device& device = piece.data.device();
    device.Copy(copy.data.raw(), piece.data.raw(), piece.data.bytes(), device.compute_stream());
  }
  if (!copies.empty()) pieces.front().data.device().compute_stream().Synchronize();
  return copies;
}

std::vector<ChunkSource> ChunksOf(const std::vector<StatePiece>& pieces) {
  std::vector<ChunkSource> chunks;
  for (const StatePiece& piece : pieces) {
    if (!piece.writes) continue;
    const ShardSpec& shard = piece.parameter->shard;
    std::vector<int64_t> starts;
    const std::vector<Rectangle> rectangles =
        shard.FlatRange(piece.begin, piece.begin + piece.data.numel(), &starts);
    for (size_t r = 0; r < rectangles.size(); ++r) {
      const std::span<const float> run(piece.data.data<float>() + (starts[r] - piece.begin),
                                       static_cast<size_t>(rectangles[r].numel()));
      chunks.push_back({piece.parameter->name, piece.kind, "F32", ToVector(shard.global_shape),
                        ToVector(rectangles[r].offset), ToVector(rectangles[r].extent),
                        std::as_bytes(run)});
    }
  }
  return chunks;
}

SavedCheckpoint SaveChunks(Communicator& group, const std::string& run_dir,
                           const Manifest& description,
                           const std::function<std::vector<ChunkSource>()>& chunks,
                           const CommitGuard& guard, const std::stop_token& stop) {
  SavedCheckpoint saved;
  const std::string& directory = saved.directory = RunOnFirst(group, [&] {
    if (guard) guard();
    return BeginCheckpoint(run_dir, description.iteration);
  });
  try {
    ShardResult own;
    RunTogether(group, [&] { own = WriteShard(directory, group.rank(), chunks(), stop); });
    std::vector<ShardResult> shards;
    for (const std::string& bytes : group.AllGatherBytes(SerializeShardResult(own))) {
      shards.push_back(ParseShardResult(bytes));
      saved.bytes += shards.back().file.size;
    }
    // Another rank's eyes: what it reads has left this rank's memory at least. Half the group away
    // it is another host's, where there are several.
    RunTogether(group, [&] {
      const ShardResult& other = shards[(group.rank() + (group.size() + 1) / 2) % group.size()];
      const std::vector<Damage> damages = VerifyShardFile(directory, other, stop);
      if (!damages.empty()) throw Error(ErrorKind::kCheckpoint, directory, Describe(damages[0]));
    });
    RunOnFirst(group, [&] {
      Manifest manifest = description;
      MergeShards(std::move(shards), manifest);
      CommitCheckpoint(directory, manifest, guard);
      return std::string();
    });
  } catch (const CollectiveError&) {
    if (group.rank() == 0) {
      // Where another process has taken the run, the folder may be its own by now.
      if (Allows(guard)) AbortCheckpoint(directory);
    }
    throw;
  }
  return saved;
}

std::string SaveCheckpoint(Communicator& world, const std::string& run_dir,
                           const Manifest& description, const std::vector<StatePiece>& pieces) {
  const std::unique_ptr<Device> host = NewCpuDevice();
  Tensor memory;
  const auto chunks = [&] {
    return ChunksOf(OnHost(pieces) ? pieces : CopyToHost(pieces, *host, memory));
  };
  return SaveChunks(world, run_dir, description, chunks).directory;
}

bool IsUnstoredZero(const CheckpointReader& reader, const std::string& kind) {
  const Manifest& manifest = reader.manifest();
  return kind != kWeightKind && manifest.training_state.optimizer_steps == 0 &&
         std::ranges::find(manifest.tensors, kind, &TensorEntry::kind) == manifest.tensors.end();
}

void CheckPieceFits(const CheckpointReader& reader, const StatePiece& piece) {
  const Parameter& parameter = *piece.parameter;
  const TensorEntry* entry = reader.Find(parameter.name, piece.kind);
  if (entry == nullptr) {
    Throw(ErrorKind::kCheckpoint, reader.directory(),
          "holds no tensor \"{}\" ({}): it is a checkpoint of another model", parameter.name,
          piece.kind);
  }
  const Shape stored{std::span<const int64_t>(entry->shape)
                         .first(std::min<size_t>(entry->shape.size(), Shape::kMaxRank))};
  if (!(stored == parameter.shard.global_shape) || entry->dtype != "F32") {
    Throw(ErrorKind::kCheckpoint, reader.directory(),
          "tensor \"{}\" ({}) is {} {}, the model needs F32 {}", parameter.name, piece.kind,
          entry->dtype, stored.ToString(), parameter.shard.global_shape.ToString());
  }
}

void LoadPieces(CheckpointReader& reader, const std::vector<StatePiece>& pieces) {
  for (const StatePiece& piece : pieces) {
    if (IsUnstoredZero(reader, piece.kind)) {
      FillZero(piece.data);
      continue;
    }
    CheckPieceFits(reader, piece);
    const Parameter& parameter = *piece.parameter;
    // Straight into its place where that is the host's memory.
    const bool on_host = piece.data.device().kind() == DeviceKind::kCpu;
    std::vector<float> values(on_host ? 0 : piece.data.numel());
    const std::span<float> elements(on_host ? piece.data.data<float>() : values.data(),
                                    static_cast<size_t>(piece.data.numel()));
    // Padding comes last in the flat order, and is zero.
    const Rectangle& held = parameter.shard.held;
    const auto stored =
        static_cast<size_t>(std::clamp<int64_t>(held.numel() - piece.begin, 0, piece.data.numel()));
    std::ranges::fill(elements.subspan(stored), 0.0f);
    if (stored > 0) {
      reader.ReadPart(parameter.name, piece.kind, held.offset.extents(), held.extent.extents(),
                      static_cast<uint64_t>(piece.begin) * sizeof(float),
                      std::as_writable_bytes(elements.first(stored)));
    }
    if (on_host) continue;
    CopyTo(piece.data, Tensor::FromHost<float>(values, piece.data.shape(), piece.data.device()));
  }
}

}  // namespace cairn
