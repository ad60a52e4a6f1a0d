#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/verify.h"

// Inside runtime/checkpoint: the checks that verifying and reading share.

namespace cairn {

/// A chunk of a shard and the tensor it belongs to.
struct ShardChunk {
  const TensorEntry* tensor;
  const Chunk* chunk;
};

/// The chunks of each of `file_count` files, in the order of their bytes.
std::vector<std::vector<ShardChunk>> ChunksByFile(std::span<const TensorEntry> tensors,
                                                  size_t file_count);

/// "" if the header of an open shard of the right size has the checksum of `entry` and describes
/// exactly `chunks`; else what is wrong with it.
std::string CheckShardHeader(const File& file, const FileEntry& entry,
                             std::span<const ShardChunk> chunks);

}  // namespace cairn
