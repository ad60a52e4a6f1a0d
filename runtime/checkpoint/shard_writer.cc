#include "runtime/checkpoint/shard_writer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {

std::string ShardFileName(int index) { return fmt::format("shard-{:05}.safetensors", index); }

ShardWriter::ShardWriter(std::string directory, std::string file_name)
    : directory_(std::move(directory)), file_name_(std::move(file_name)) {}

void ShardWriter::Add(ChunkSource source) {
  const std::string where =
      fmt::format("{}: tensor \"{}\" ({})", file_name_, source.name, source.kind);
  const std::optional<uint64_t> bytes = TensorBytes(source.dtype, source.extent);
  if (!TensorBytes(source.dtype, source.shape) || !bytes ||
      !IsInside({source.offset, source.extent}, source.shape)) {
    Throw(ErrorKind::kCheckpoint, where, "[{}]+[{}] is no part of {} [{}]",
          fmt::join(source.offset, ","), fmt::join(source.extent, ","), source.dtype,
          fmt::join(source.shape, ","));
  }
  if (*bytes != source.data.size()) {
    Throw(ErrorKind::kCheckpoint, where, "{} bytes given, {} [{}] has {}", source.data.size(),
          source.dtype, fmt::join(source.extent, ","), *bytes);
  }
  if (*bytes == 0 && source.extent != source.shape) return;
  sources_.push_back(std::move(source));
}

ShardResult ShardWriter::Write(const std::stop_token& stop) {
  const std::string path = JoinPath(directory_, file_name_);
  // Larger elements first: then every tensor lies on a multiple of its element size.
  std::ranges::stable_sort(sources_, std::ranges::greater(), [](const ChunkSource& source) {
    return SafetensorsDTypeBytes(source.dtype).value_or(0);
  });

  ShardResult result;
  std::unordered_map<std::string, size_t> index;
  std::vector<SafetensorsTensor> entries;
  std::vector<std::pair<size_t, size_t>> places;  // tensor and chunk of each source
  for (const ChunkSource& source : sources_) {
    TensorEntry tensor = {.name = source.name,
                          .kind = source.kind,
                          .dtype = source.dtype,
                          .shape = source.shape,
                          .chunks = {}};
    Chunk chunk;
    chunk.offset = source.offset;
    chunk.extent = source.extent;
    chunk.entry = ChunkEntryName(tensor, chunk);
    entries.push_back({chunk.entry, source.dtype, source.extent, source.data});
    const auto [found, is_new] =
        index.emplace(source.name + "@" + source.kind, result.tensors.size());
    if (is_new) result.tensors.push_back(std::move(tensor));
    std::vector<Chunk>& siblings = result.tensors[found->second].chunks;
    places.emplace_back(found->second, siblings.size());
    siblings.push_back(std::move(chunk));
  }

  const std::string header =
      BuildSafetensorsHeader(entries, {{"format", "cairn checkpoint shard"}}, path);
  const auto header_bytes = std::as_bytes(std::span(header));
  Xxh3Stream whole;
  whole.Update(header_bytes);
  uint64_t file_offset = header.size();
  for (size_t i = 0; i < sources_.size(); ++i) {
    Chunk& chunk = result.tensors[places[i].first].chunks[places[i].second];
    chunk.file_offset = file_offset;
    chunk.crc32c.reserve(CrcBlockCount(sources_[i].data.size()));
    file_offset += sources_[i].data.size();
  }
  WriteSafetensorsFile(path, header, entries, [&](size_t i, std::span<const std::byte> block) {
    if (stop.stop_requested()) Throw(ErrorKind::kInterrupted, path, "the save was given up");
    result.tensors[places[i].first].chunks[places[i].second].crc32c.push_back(Crc32c(block));
    whole.Update(block);
  });
  result.file = {.name = file_name_,
                 .size = file_offset,
                 .header_bytes = header.size(),
                 .header_crc32c = Crc32c(header_bytes),
                 .xxh3_128 = whole.HexDigest()};
  return result;
}

}  // namespace cairn
