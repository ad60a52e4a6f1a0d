#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/manifest.h"

namespace cairn {

/// A rectangle that a new shard is to hold of a tensor of the checkpoint that is read.
struct TensorPart {
  std::string name;
  std::string kind;
  std::vector<int64_t> offset;
  std::vector<int64_t> extent;
};

/// A shard to write. Parts keep their order.
struct ShardPlan {
  std::string file_name;
  std::vector<TensorPart> parts;
};

/// Throws Error(kCheckpoint) unless the parts of all shards tile every tensor of `reader`'s
/// checkpoint exactly: nothing is lost, nothing made up.
void CheckShardPlans(const CheckpointReader& reader, const std::vector<ShardPlan>& shards);

/// Writes the content of `reader`'s checkpoint anew, cut into `shards`, which CheckShardPlans has
/// accepted. `description` is the new manifest but for tensors and files. `directory` must not
/// exist yet; it becomes a checkpoint with the last rename, and goes again if anything fails.
///
/// Holds `section_bytes` (rounded to whole blocks, at least one) of tensors at a time, whatever
/// their size: a section of a shard is read source by source, so that every block it needs is read
/// once. Returns the committed manifest.
Manifest RewriteCheckpoint(CheckpointReader& reader, Manifest description,
                           const std::vector<ShardPlan>& shards, const std::string& directory,
                           uint64_t section_bytes);

}  // namespace cairn
