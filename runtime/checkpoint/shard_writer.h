#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "runtime/checkpoint/byte_source.h"
#include "runtime/checkpoint/manifest.h"

namespace cairn {

/// A rectangle of a logical tensor to save.
struct ChunkSource {
  std::string name;  ///< the logical tensor's, see TensorEntry
  std::string kind;
  std::string dtype;
  std::vector<int64_t> shape;   ///< global
  std::vector<int64_t> offset;  ///< of the rectangle
  std::vector<int64_t> extent;
  ByteSource data;  ///< row-major; unchanged until Write() returns
};

/// The usual name of a rank's shard: "shard-00003.safetensors".
std::string ShardFileName(int index);

/// Writes one rank's shard of a checkpoint. The digests of a block are taken from memory before it
/// goes to the disk, so that they vouch for what was meant, not for what arrived.
class ShardWriter {
 public:
  /// `directory` is what BeginCheckpoint returned; `file_name` is unique among its ranks.
  ShardWriter(std::string directory, std::string file_name);

  /// Adds a rectangle. An empty one is ignored, unless it is a whole tensor without elements.
  /// An Error of kind kCheckpoint if it does not lie in `shape` or `data` has another size.
  void Add(ChunkSource source);

  /// Writes and makes durable; call once. Files without any chunk are legal. Throws
  /// Error(kInterrupted) soon after `stop` is requested.
  ShardResult Write(const std::stop_token& stop = {});

 private:
  std::string directory_;
  std::string file_name_;
  std::vector<ChunkSource> sources_;
};

}  // namespace cairn
