#include "runtime/checkpoint/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/shard_check.h"

namespace cairn {
namespace {

// Of so many blocks that are read back, one comes from storage.
constexpr size_t kStorageSample = 64;

// Checks one shard and appends what is wrong with it.
class ShardVerifier {
 public:
  ShardVerifier(const FileEntry& entry, std::span<const ShardChunk> chunks,
                std::vector<Damage>& damages, const std::stop_token& stop)
      : entry_(entry), chunks_(chunks), damages_(damages), stop_(stop) {}

  // `just_written`: the page cache still has it, which must not answer for all of it.
  void Run(const std::string& directory, VerifyLevel level, bool just_written) {
    const size_t before = damages_.size();
    uint64_t size = 0;
    try {
      const File file = File::OpenForRead(JoinPath(directory, entry_.name), Links::kRefuse);
      size = file.Size();
      if (just_written) file.DropCache(0, entry_.header_bytes);
      CheckSize(size);
      if (size >= entry_.header_bytes) CheckHeader(file);
      if (level == VerifyLevel::kQuick) return;
      CheckData(file, size, before, just_written);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kInterrupted) throw;
      Lost(0, error.message());
    }
  }

 private:
  void Add(const ShardChunk* chunk, uint64_t begin, uint64_t end, std::string message) {
    damages_.push_back({.file = entry_.name,
                        .tensor = chunk != nullptr ? chunk->tensor->name : "",
                        .kind = chunk != nullptr ? chunk->tensor->kind : "",
                        .byte_begin = begin,
                        .byte_end = end,
                        .message = std::move(message)});
  }

  // Everything from byte `from` on is lost: names each part of it.
  void Lost(uint64_t from, const std::string& message) {
    if (from < entry_.header_bytes) Add(nullptr, from, entry_.header_bytes, message);
    for (const ShardChunk& c : chunks_) {
      const uint64_t begin = c.chunk->file_offset;
      const uint64_t end = begin + ChunkBytes(*c.tensor, *c.chunk);
      if (end > from && end > begin) Add(&c, std::max(begin, from), end, message);
    }
  }

  void CheckSize(uint64_t size) {
    if (size == entry_.size) return;
    const std::string message =
        fmt::format("the file has {} bytes, {} were committed", size, entry_.size);
    if (size > entry_.size) {
      Add(nullptr, entry_.size, size, message);
    } else {
      Lost(size, message);
    }
  }

  void CheckHeader(const File& file) {
    std::string problem = CheckShardHeader(file, entry_, chunks_);
    if (!problem.empty()) Add(nullptr, 0, entry_.header_bytes, std::move(problem));
  }

  void CheckData(const File& file, uint64_t size, size_t damages_before, bool just_written) {
    Xxh3Stream whole;
    std::vector<std::byte> buffer(std::min<uint64_t>(kCrcBlockBytes, entry_.size));
    for (uint64_t begin = 0; begin < std::min(size, entry_.header_bytes);) {
      const auto piece = std::span(buffer).first(
          std::min<uint64_t>(buffer.size(), std::min(size, entry_.header_bytes) - begin));
      file.ReadAt(begin, piece);
      whole.Update(piece);
      begin += piece.size();
    }
    size_t count = 0;
    for (const ShardChunk& c : chunks_) {
      const uint64_t bytes = ChunkBytes(*c.tensor, *c.chunk);
      if (c.chunk->file_offset + bytes > size) continue;  // named by CheckSize
      for (size_t i = 0; i < c.chunk->crc32c.size(); ++i) {
        if (stop_.stop_requested()) {
          Throw(ErrorKind::kInterrupted, file.path(), "the verification was given up");
        }
        const uint64_t in_chunk = i * kCrcBlockBytes;
        const uint64_t begin = c.chunk->file_offset + in_chunk;
        const auto block =
            std::span(buffer).first(std::min<uint64_t>(kCrcBlockBytes, bytes - in_chunk));
        if (just_written && count++ % kStorageSample == 0) file.DropCache(begin, block.size());
        CheckBlock(file, c, i, begin, block);
        whole.Update(block);
      }
    }
    if (damages_.size() == damages_before && whole.HexDigest() != entry_.xxh3_128) {
      Add(nullptr, 0, entry_.size, "the file's XXH3 differs from the committed one");
    }
  }

  void CheckBlock(const File& file, const ShardChunk& chunk, size_t index, uint64_t begin,
                  std::span<std::byte> block) {
    try {
      file.ReadAt(begin, block);
    } catch (const Error& error) {
      Add(&chunk, begin, begin + block.size(), error.message());
      return;
    }
    if (Crc32c(block) != chunk.chunk->crc32c[index]) {
      Add(&chunk, begin, begin + block.size(), "CRC32C differs from the committed one");
    }
  }

  const FileEntry& entry_;
  std::span<const ShardChunk> chunks_;
  std::vector<Damage>& damages_;
  std::stop_token stop_;
};

void VerifyShards(const std::string& directory, const Manifest& manifest, VerifyLevel level,
                  std::vector<Damage>& damages) {
  const auto chunks = ChunksByFile(manifest.tensors, manifest.files.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    ShardVerifier(manifest.files[i], chunks[i], damages, {}).Run(directory, level, false);
  }
}

}  // namespace

std::string Describe(const Damage& damage) {
  std::string text = damage.file;
  if (!damage.tensor.empty()) {
    text += fmt::format(": tensor \"{}\" ({})", damage.tensor, damage.kind);
  }
  if (damage.byte_end > damage.byte_begin) {
    text += fmt::format("{} bytes [{},{})", damage.tensor.empty() ? ":" : ",", damage.byte_begin,
                        damage.byte_end);
  }
  return text + ": " + damage.message;
}

std::vector<Damage> VerifyCheckpoint(const std::string& directory, VerifyLevel level) {
  std::vector<Damage> damages;
  const std::optional<Manifest> manifest = TryLoadManifest(directory, damages);
  if (manifest) VerifyShards(directory, *manifest, level, damages);
  return damages;
}

std::vector<Damage> VerifyShardFiles(const std::string& directory, const Manifest& manifest) {
  std::vector<Damage> damages;
  VerifyShards(directory, manifest, VerifyLevel::kFull, damages);
  return damages;
}

std::vector<Damage> VerifyShardFile(const std::string& directory, const ShardResult& shard,
                                    const std::stop_token& stop) {
  std::vector<Damage> damages;
  const auto chunks = ChunksByFile(shard.tensors, 1);
  ShardVerifier(shard.file, chunks[0], damages, stop).Run(directory, VerifyLevel::kFull, true);
  return damages;
}

}  // namespace cairn
