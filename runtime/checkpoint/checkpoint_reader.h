#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_check.h"

namespace cairn {

/// Reads any rectangle of any tensor of a committed checkpoint, whatever layout saved it. Every
/// byte handed out has passed its checksum. One thread at a time.
class CheckpointReader {
 public:
  /// Checks COMMIT and the manifest; a shard's size and header are checked when it is first needed,
  /// so that a rank touches only the files that it reads. Errors are of kind kCheckpoint.
  explicit CheckpointReader(std::string directory);
  CheckpointReader(CheckpointReader&&) = default;
  CheckpointReader& operator=(CheckpointReader&&) = default;
  CheckpointReader(const CheckpointReader&) = delete;  // its indices point into its manifest
  CheckpointReader& operator=(const CheckpointReader&) = delete;
  ~CheckpointReader() = default;

  const std::string& directory() const { return directory_; }
  const Manifest& manifest() const { return manifest_; }

  /// The tensor of that name and kind, null if there is none.
  const TensorEntry* Find(std::string_view name, std::string_view kind) const;

  /// Fills `out` with the rectangle [offset, offset+extent) of a tensor, row-major and in the
  /// tensor's dtype; `out` has exactly its bytes. An Error names the missing tensor, the rectangle
  /// that does not fit, or the file, tensor and bytes that are damaged.
  void Read(std::string_view name, std::string_view kind, std::span<const int64_t> offset,
            std::span<const int64_t> extent, std::span<std::byte> out);

  /// The same for a part of the rectangle: bytes [begin, begin + out.size()) of its row-major
  /// order, whole elements.
  void ReadPart(std::string_view name, std::string_view kind, std::span<const int64_t> offset,
                std::span<const int64_t> extent, uint64_t begin, std::span<std::byte> out);

  /// Bytes read from shards so far: the header of each that was needed, and whole blocks, for only
  /// those have checksums. One call reads no block twice, and none that it needs nothing of.
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  class BlockSource;

  /// The tensor of which [offset, offset+extent) is a part of `bytes` bytes.
  const TensorEntry& Require(std::string_view name, std::string_view kind,
                             std::span<const int64_t> offset, std::span<const int64_t> extent,
                             uint64_t* bytes) const;
  const File& Shard(uint32_t index);

  std::string directory_;
  Manifest manifest_;
  std::unordered_map<std::string, const TensorEntry*> tensors_;
  std::vector<std::vector<ShardChunk>> chunks_;
  std::vector<bool> checked_;
  std::map<uint32_t, File> open_;
  uint64_t bytes_read_ = 0;
};

}  // namespace cairn
