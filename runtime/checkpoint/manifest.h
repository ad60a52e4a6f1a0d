#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// The version that this program writes, and the newest that it reads.
inline constexpr uint32_t kCheckpointFormat = 1;

/// Bounds of a manifest: what has more is not read, and not written.
inline constexpr uint64_t kMaxManifestBytes = uint64_t{512} << 20;
inline constexpr size_t kMaxConfigTextBytes = size_t{4} << 20;
inline constexpr size_t kMaxLayoutEntries = 1024;

/// The kind of a tensor that is a parameter; optimizer state has kinds such as "exp_avg".
inline constexpr const char* kWeightKind = "weight";

/// A rectangle of a logical tensor, and the bytes of a shard that hold it (row-major).
struct Chunk {
  uint32_t file = 0;             ///< index into Manifest::files
  std::string entry;             ///< the tensor's name inside that safetensors file
  uint64_t file_offset = 0;      ///< the first of its bytes in the file, header included
  std::vector<int64_t> offset;   ///< of the rectangle in the logical tensor
  std::vector<int64_t> extent;   ///< the shape of the entry
  std::vector<uint32_t> crc32c;  ///< one for each kCrcBlockBytes of its bytes
};

/// A logical tensor, whole: chunks tile its shape exactly. (name, kind) is unique in a manifest.
struct TensorEntry {
  std::string name;            ///< with global numbers: "layers.3.mlp.fc1.weight"
  std::string kind;            ///< kWeightKind, "exp_avg", "exp_avg_sq", ...: [a-z0-9_]+
  std::string dtype;           ///< as safetensors spells it: "F32", "BF16", ...
  std::vector<int64_t> shape;  ///< global
  std::vector<Chunk> chunks;
};

/// A shard: a safetensors file in the checkpoint's folder.
struct FileEntry {
  std::string name;            ///< a plain name, no folder
  uint64_t size = 0;           ///< bytes
  uint64_t header_bytes = 0;   ///< length field and JSON
  uint32_t header_crc32c = 0;  ///< of these bytes
  std::string xxh3_128;        ///< of the whole file, 32 hexadecimal digits
};

/// Scalars without which a run cannot go on as if it had never stopped.
struct TrainingState {
  double loss_scale = 1;
  int64_t loss_scale_growth_tracker = 0;  ///< good iterations since the scale last changed
  int64_t loss_scale_hysteresis = 0;      ///< overflows left before the scale shrinks
  int64_t optimizer_steps = 0;            ///< steps that were taken: Adam's t
  int64_t skipped_iterations = 0;         ///< iterations whose step was skipped
  uint64_t seed = 0;
  int64_t skipped_samples = 0;     ///< passed over by rewinds: consumed_samples counts none of them
  int64_t loss_trend_count = 0;    ///< the losses that an anomaly is judged by: how many,
  double loss_trend_mean = 0;      ///< their recent mean,
  double loss_trend_variance = 0;  ///< and variance

  bool operator==(const TrainingState&) const = default;
};

/// The whole description of a checkpoint, free of any layout but for where bytes lie.
struct Manifest {
  uint32_t format_version = kCheckpointFormat;
  int64_t iteration = 0;
  int64_t consumed_samples = 0;
  int64_t tokens = 0;       ///< trained on so far
  std::string config_text;  ///< the resolved config, protobuf text
  TrainingState training_state;
  std::map<std::string, std::string> layout;  ///< of the run that saved; for people, never needed
  std::vector<TensorEntry> tensors;
  std::vector<FileEntry> files;

  /// The tensor of that name and kind, null if there is none. Tensors are searched in order.
  const TensorEntry* Find(std::string_view name, std::string_view kind) const;
};

/// One shard and the tensors it has parts of; their chunks carry file 0.
struct ShardResult {
  FileEntry file;
  std::vector<TensorEntry> tensors;
};

/// The name of a chunk inside its shard: the tensor's name; "@kind" unless it is a weight; "#" and
/// the offsets joined by "," unless it is the whole tensor. So a weight that is not split carries
/// its plain name, and every name tells where its bytes belong:
/// "layers.3.mlp.fc1.weight@exp_avg#1024,0".
std::string ChunkEntryName(const TensorEntry& tensor, const Chunk& chunk);

/// Bytes of a chunk of `tensor`, which must have been validated.
uint64_t ChunkBytes(const TensorEntry& tensor, const Chunk& chunk);

/// Orders names as people do: "layers.2" before "layers.10".
bool NaturalLess(std::string_view a, std::string_view b);

/// Adds shards to a manifest: their files, and their chunks to the tensors of the same name and
/// kind. Tensors end in natural order. An Error of kind kCheckpoint names shards that disagree
/// about a tensor's dtype or shape.
void MergeShards(std::vector<ShardResult> shards, Manifest& manifest);

/// Checks everything that can be checked without the shards, with an Error of kind kCheckpoint at
/// `where` that names the file or tensor: versions, names, bounds, that the chunks of each tensor
/// tile its shape, and that headers and chunks fill each file exactly.
void ValidateManifest(const Manifest& manifest, const std::string& where);

/// The bytes of MANIFEST.pb; the same for equal manifests.
std::string SerializeManifest(const Manifest& manifest);
/// Parses and validates; every failure is an Error of kind kCheckpoint at `where`.
Manifest ParseManifest(std::string_view bytes, const std::string& where);

/// A shard's description as bytes, for the way to the rank that commits.
std::string SerializeShardResult(const ShardResult& shard);
/// The inverse; bytes that are no shard description are an Error of kind kCheckpoint.
ShardResult ParseShardResult(std::string_view bytes);

}  // namespace cairn
