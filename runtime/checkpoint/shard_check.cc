#include "runtime/checkpoint/shard_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"

namespace cairn {

std::vector<std::vector<ShardChunk>> ChunksByFile(std::span<const TensorEntry> tensors,
                                                  size_t file_count) {
  std::vector<std::vector<ShardChunk>> files(file_count);
  for (const TensorEntry& tensor : tensors) {
    for (const Chunk& chunk : tensor.chunks) files.at(chunk.file).push_back({&tensor, &chunk});
  }
  for (std::vector<ShardChunk>& chunks : files) {
    std::ranges::sort(chunks, {}, [](const ShardChunk& c) {
      return std::tuple(c.chunk->file_offset, ChunkBytes(*c.tensor, *c.chunk));
    });
  }
  return files;
}

std::string CheckShardHeader(const File& file, const FileEntry& entry,
                             std::span<const ShardChunk> chunks) {
  std::string bytes(entry.header_bytes, '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span(bytes)));
  if (Crc32c(std::as_bytes(std::span(bytes))) != entry.header_crc32c) {
    return "the header's CRC32C differs from the committed one";
  }
  uint64_t json_bytes = 0;
  std::memcpy(&json_bytes, bytes.data(), sizeof(json_bytes));
  if (json_bytes != entry.header_bytes - sizeof(json_bytes)) {
    return fmt::format("the header says that it has {} bytes, the manifest {}", json_bytes,
                       entry.header_bytes - sizeof(json_bytes));
  }
  SafetensorsHeader header;
  try {
    header = ParseSafetensorsHeader(std::string_view(bytes).substr(sizeof(json_bytes)), entry.size,
                                    file.path());
  } catch (const Error& error) {
    return error.message();
  }
  // Tensors without bytes share their offset with a neighbour, so names decide, not places.
  std::unordered_map<std::string_view, const SafetensorsEntry*> by_name;
  for (const SafetensorsEntry& tensor : header.entries) by_name.emplace(tensor.name, &tensor);
  for (const ShardChunk& c : chunks) {
    const auto found = by_name.find(c.chunk->entry);
    if (found == by_name.end() || found->second->dtype != c.tensor->dtype ||
        found->second->shape != c.chunk->extent ||
        found->second->begin + header.header_bytes != c.chunk->file_offset) {
      return fmt::format("the header's entry \"{}\" is not the one that the manifest names",
                         c.chunk->entry);
    }
  }
  if (by_name.size() != chunks.size()) {
    return fmt::format("the header has {} tensors, the manifest {}", by_name.size(), chunks.size());
  }
  return "";
}

}  // namespace cairn
