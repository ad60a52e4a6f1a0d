#include "runtime/checkpoint/rewrite.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <span>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/byte_source.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/store.h"
#include "runtime/checkpoint/tiling.h"
#include "runtime/checkpoint/verify.h"

namespace cairn {
namespace {

// A window over the bytes of one part after another. A wide window is what keeps a checkpoint cut
// into columns from being read many times over: each block of a source is used up before the next.
class SectionReader {
 public:
  SectionReader(CheckpointReader& reader, uint64_t section_bytes)
      : reader_(reader),
        section_bytes_(std::max<uint64_t>(1, section_bytes / kCrcBlockBytes) * kCrcBlockBytes) {}

  // Copies bytes [begin, begin + out.size()) of `part`, which has `bytes`: one block of it.
  void Copy(const TensorPart& part, uint64_t bytes, uint64_t begin, std::span<std::byte> out) {
    const uint64_t section_begin = begin / section_bytes_ * section_bytes_;
    if (part_ != &part || begin_ != section_begin) {
      part_ = nullptr;  // until it is whole
      section_.resize(std::min(section_bytes_, bytes - section_begin));
      reader_.ReadPart(part.name, part.kind, part.offset, part.extent, section_begin, section_);
      part_ = &part;
      begin_ = section_begin;
    }
    std::memcpy(out.data(), section_.data() + (begin - begin_), out.size());
  }

 private:
  CheckpointReader& reader_;
  uint64_t section_bytes_;
  const TensorPart* part_ = nullptr;  // whose bytes from begin_ on section_ holds
  uint64_t begin_ = 0;
  std::vector<std::byte> section_;
};

ShardResult WriteShard(const CheckpointReader& reader, SectionReader& sections,
                       const std::string& directory, const ShardPlan& shard) {
  ShardWriter writer(directory, shard.file_name);
  for (const TensorPart& part : shard.parts) {
    const TensorEntry& tensor = *reader.Find(part.name, part.kind);
    const uint64_t bytes = TensorBytes(tensor.dtype, part.extent).value_or(0);
    const ByteSource data(bytes,
                          [&sections, &part, bytes](uint64_t begin, std::span<std::byte> out) {
                            sections.Copy(part, bytes, begin, out);
                          });
    writer.Add({part.name, part.kind, tensor.dtype, tensor.shape, part.offset, part.extent, data});
  }
  ShardResult result = writer.Write();
  const std::vector<Damage> damages = VerifyShardFile(directory, result);
  if (!damages.empty()) throw Error(ErrorKind::kCheckpoint, directory, Describe(damages.front()));
  return result;
}

}  // namespace

void CheckShardPlans(const CheckpointReader& reader, const std::vector<ShardPlan>& shards) {
  std::map<const TensorEntry*, std::vector<Rectangle>> tiles;
  for (const ShardPlan& shard : shards) {
    for (const TensorPart& part : shard.parts) {
      const TensorEntry* const tensor = reader.Find(part.name, part.kind);
      if (tensor == nullptr) {
        Throw(ErrorKind::kCheckpoint, reader.directory(), "holds no tensor \"{}\" ({})", part.name,
              part.kind);
      }
      tiles[tensor].push_back({part.offset, part.extent});
    }
  }
  for (const TensorEntry& tensor : reader.manifest().tensors) {
    const std::string problem = CheckTiling(tensor.shape, tiles[&tensor]);
    if (problem.empty()) continue;
    Throw(ErrorKind::kCheckpoint, reader.directory(), "tensor \"{}\" ({}) would not pass whole: {}",
          tensor.name, tensor.kind, problem);
  }
}

Manifest RewriteCheckpoint(CheckpointReader& reader, Manifest description,
                           const std::vector<ShardPlan>& shards, const std::string& directory,
                           uint64_t section_bytes) {
  BeginCheckpointAt(directory, description.iteration);
  try {
    SectionReader sections(reader, section_bytes);
    std::vector<ShardResult> results;
    results.reserve(shards.size());
    for (const ShardPlan& shard : shards) {
      results.push_back(WriteShard(reader, sections, directory, shard));
    }
    MergeShards(std::move(results), description);
    WriteCommit(directory, description);
  } catch (...) {
    AbortCheckpoint(directory);
    throw;
  }
  return description;
}

}  // namespace cairn
