#include "parallel/checkpoint.h"

#include <algorithm>

#include "parallel/agreement.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/store.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

std::vector<int64_t> ToVector(const Shape& shape) {
  return {shape.extents().begin(), shape.extents().end()};
}

ShardResult WriteShard(const std::string& directory, int rank,
                       const std::vector<StatePiece>& pieces) {
  ShardWriter writer(directory, ShardFileName(rank));
  std::vector<std::vector<float>> copies(pieces.size());
  for (size_t p = 0; p < pieces.size(); ++p) {
    const StatePiece& piece = pieces[p];
    if (!piece.writes) continue;
    const bool on_host = piece.data.device().kind() == DeviceKind::kCpu;
    if (!on_host) copies[p] = piece.data.ToHost<float>();
    const float* elements = on_host ? piece.data.data<float>() : copies[p].data();
    const ShardSpec& shard = piece.parameter->shard;
    std::vector<int64_t> starts;
    const std::vector<Rectangle> rectangles =
        shard.FlatRange(piece.begin, piece.begin + piece.data.numel(), &starts);
    for (size_t r = 0; r < rectangles.size(); ++r) {
      const std::span<const float> run(elements + (starts[r] - piece.begin),
                                       static_cast<size_t>(rectangles[r].numel()));
      writer.Add({piece.parameter->name, piece.kind, "F32", ToVector(shard.global_shape),
                  ToVector(rectangles[r].offset), ToVector(rectangles[r].extent),
                  std::as_bytes(run)});
    }
  }
  return writer.Write();
}

// A model that no optimizer has stepped has no moments yet: they are zero and need not be stored.
bool IsUnstoredZero(const CheckpointReader& reader, const std::string& kind) {
  const Manifest& manifest = reader.manifest();
  return kind != kWeightKind && manifest.training_state.optimizer_steps == 0 &&
         std::ranges::find(manifest.tensors, kind, &TensorEntry::kind) == manifest.tensors.end();
}

}  // namespace

std::string SaveCheckpoint(Communicator& world, const std::string& run_dir,
                           const Manifest& description, const std::vector<StatePiece>& pieces) {
  std::string directory =
      RunOnFirst(world, [&] { return BeginCheckpoint(run_dir, description.iteration); });
  try {
    ShardResult own;
    RunTogether(world, [&] { own = WriteShard(directory, world.rank(), pieces); });
    std::vector<ShardResult> shards;
    for (const std::string& bytes : world.AllGatherBytes(SerializeShardResult(own))) {
      shards.push_back(ParseShardResult(bytes));
    }
    // Another rank's eyes: what it reads has left this rank's memory at least.
    RunTogether(world, [&] {
      const ShardResult& neighbour = shards[(world.rank() + 1) % world.size()];
      const std::vector<Damage> damages = VerifyShardFile(directory, neighbour);
      if (!damages.empty()) throw Error(ErrorKind::kCheckpoint, directory, Describe(damages[0]));
    });
    RunOnFirst(world, [&] {
      Manifest manifest = description;
      MergeShards(std::move(shards), manifest);
      CommitCheckpoint(directory, manifest);
      return std::string();
    });
  } catch (const CollectiveError&) {
    if (world.rank() == 0) AbortCheckpoint(directory);
    throw;
  }
  return directory;
}

void LoadPieces(CheckpointReader& reader, const std::vector<StatePiece>& pieces) {
  for (const StatePiece& piece : pieces) {
    const Parameter& parameter = *piece.parameter;
    const TensorEntry* entry = reader.Find(parameter.name, piece.kind);
    if (entry == nullptr && IsUnstoredZero(reader, piece.kind)) {
      FillZero(piece.data);
      continue;
    }
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
    std::vector<float> values(piece.data.numel(), 0.0f);  // padding is zero
    std::vector<int64_t> starts;
    const std::vector<Rectangle> rectangles =
        parameter.shard.FlatRange(piece.begin, piece.begin + piece.data.numel(), &starts);
    for (size_t r = 0; r < rectangles.size(); ++r) {
      const std::span<float> run(values.data() + (starts[r] - piece.begin),
                                 static_cast<size_t>(rectangles[r].numel()));
      reader.Read(parameter.name, piece.kind, rectangles[r].offset.extents(),
                  rectangles[r].extent.extents(), std::as_writable_bytes(run));
    }
    CopyTo(piece.data, Tensor::FromHost<float>(values, piece.data.shape(), piece.data.device()));
  }
}

}  // namespace cairn
