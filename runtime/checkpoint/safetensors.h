#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/checkpoint/byte_source.h"
#include "runtime/checkpoint/file.h"

// The safetensors format: u64 little-endian N, N bytes of JSON, then the tensors' bytes without a
// hole, in the order of their offsets.

namespace cairn {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr size_t kMaxTensorNameBytes = 1024;
inline constexpr size_t kMaxMetadataEntries = 4096;

/// Bytes of one element of a safetensors dtype such as "F32" or "BF16"; nothing if unknown.
std::optional<uint64_t> SafetensorsDTypeBytes(std::string_view dtype);

/// Checked elements × bytes of one element; nothing on overflow, a negative dimension, more than
/// kMaxRank dimensions, or an unknown dtype.
std::optional<uint64_t> TensorBytes(std::string_view dtype, std::span<const int64_t> shape);

/// One tensor of a file. Offsets count from the first byte after the header.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

/// What a file's header says.
struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> entries;  ///< in the order of their bytes
  uint64_t header_bytes = 0;              ///< the length field and the JSON: where the data begins
};

/// Checks and reads the JSON of a header whose file has `file_bytes` bytes. Refuses, with an Error
/// of kind kCheckpoint at `where`: anything but the format's members, duplicate keys, names over 1
/// KiB, unknown dtypes, products that overflow, sizes that differ from shape × dtype, holes,
/// overlaps, and bytes after the last tensor.
SafetensorsHeader ParseSafetensorsHeader(std::string_view json, uint64_t file_bytes,
                                         const std::string& where);

/// A safetensors file open for reading.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const SafetensorsHeader& header() const { return header_; }
  const File& file() const { return file_; }
  /// The entry of that name, null if there is none.
  const SafetensorsEntry* Find(const std::string& name) const;
  /// Fills `out` with bytes of `entry`, starting `begin` bytes after its first.
  void Read(const SafetensorsEntry& entry, uint64_t begin, std::span<std::byte> out) const;

 private:
  File file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, size_t> index_;
};

/// A tensor to write: its bytes are row-major and little-endian.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  ByteSource data;
};

/// The length field and the JSON, padded with spaces to a multiple of 8, for tensors whose bytes
/// follow in the given order. Refuses duplicate or overlong names and data that do not fit the
/// shape.
std::string BuildSafetensorsHeader(std::span<const SafetensorsTensor> tensors,
                                   const std::map<std::string, std::string>& metadata,
                                   const std::string& where);

/// Sees each block of kCrcBlockBytes of the tensor `index` before it is written.
using BlockObserver = std::function<void(size_t index, std::span<const std::byte> block)>;

/// Writes `header` (of BuildSafetensorsHeader) and the tensors' bytes, holding one block of them at
/// most in memory of its own: PATH.part, fsync, rename, fsync of the directory.
void WriteSafetensorsFile(const std::string& path, const std::string& header,
                          std::span<const SafetensorsTensor> tensors,
                          const BlockObserver& observe = {});

/// Both steps, for callers that need nothing in between. For aligned data order the tensors by
/// descending element size, as the reference writer does.
void WriteSafetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace cairn
