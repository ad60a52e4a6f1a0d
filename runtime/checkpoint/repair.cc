#include "runtime/checkpoint/repair.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/shard_check.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

// Bytes of a shard that one CRC32C vouches for.
struct Block {
  uint64_t begin;
  uint64_t bytes;
  uint32_t crc32c;
  const TensorEntry* tensor;  // null: the header
};

std::optional<CommitRecord> RecordOf(const std::string& copy) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(copy, ignored)) {
    Throw(ErrorKind::kCheckpoint, copy, "is no folder; a copy of a checkpoint was expected");
  }
  const std::optional<CommitRecord> record = ReadCommitRecord(copy, kCommitFile);
  return record ? record : ReadCommitRecord(copy, kDamagedFile);
}

// The repair of one checkpoint: damaged copy first, replica second.
class Repair {
 public:
  Repair(const std::string& damaged, const std::string& replica)
      : copies_({damaged, replica}), records_({RecordOf(damaged), RecordOf(replica)}) {}

  RepairReport Run(const std::string& directory) {
    const CommitRecord record = ChooseRecord();
    report_.iteration = record.iteration;
    const std::string bytes = ChooseManifest(record);
    if (bytes.empty()) return std::move(report_);
    const Manifest manifest = ParseManifest(bytes, JoinPath(copies_[0], kManifestFile));
    report_.files = manifest.files.size();
    BeginCheckpointAt(directory, record.iteration);
    try {
      const auto chunks = ChunksByFile(manifest.tensors, manifest.files.size());
      for (size_t i = 0; i < chunks.size(); ++i)
        WriteShard(directory, manifest.files[i], chunks[i]);
      if (report_.lost.empty()) {
        const std::vector<Damage> damages = VerifyShardFiles(directory, manifest);
        if (!damages.empty()) {
          throw Error(ErrorKind::kCheckpoint, directory, Describe(damages.front()));
        }
        WriteCommit(directory, bytes, record);
      } else {
        AbortCheckpoint(directory);
      }
    } catch (...) {
      AbortCheckpoint(directory);
      throw;
    }
    return std::move(report_);
  }

 private:
  CommitRecord ChooseRecord() {
    const auto& [damaged, replica] = records_;
    if (!damaged && !replica) {
      Throw(ErrorKind::kCheckpoint, copies_[0],
            "has no sound COMMIT, and neither has {}: without one nothing says what was committed",
            copies_[1]);
    }
    if (damaged && replica && damaged->Render() != replica->Render()) {
      Throw(ErrorKind::kCheckpoint, copies_[1],
            "is no copy of {}: COMMIT names a manifest with SHA-256 {} (iteration {}), there {} "
            "(iteration {})",
            copies_[0], replica->manifest_sha256, replica->iteration, damaged->manifest_sha256,
            damaged->iteration);
    }
    if (damaged) return *damaged;
    report_.replaced.push_back({.file = kCommitFile,
                                .tensor = "",
                                .kind = "",
                                .byte_begin = 0,
                                .byte_end = 0,
                                .message = "is missing or no commit record"});
    return *replica;
  }

  // Empty where both copies have lost it.
  std::string ChooseManifest(const CommitRecord& record) {
    std::vector<Damage> damages;
    for (const std::string& copy : copies_) {
      std::optional<std::string> bytes = ReadManifestBytes(copy, record, damages);
      if (!bytes) continue;
      std::ranges::move(damages, std::back_inserter(report_.replaced));
      return std::move(*bytes);
    }
    std::ranges::move(damages, std::back_inserter(report_.lost));
    return "";
  }

  // Once a block is lost, the rest is only looked at, to name every loss.
  void WriteShard(const std::string& directory, const FileEntry& entry,
                  const std::vector<ShardChunk>& chunks) {
    sources_ = {};
    open_errors_ = {};
    for (size_t i = 0; i < copies_.size(); ++i) {
      try {
        sources_[i] = File::OpenForRead(JoinPath(copies_[i], entry.name));
      } catch (const Error& error) {
        open_errors_[i] = error.message();
      }
    }
    if (!report_.lost.empty()) return CopyBlocks(entry, chunks, nullptr);
    WriteFileAtomically(JoinPath(directory, entry.name),
                        [&](File& out) { CopyBlocks(entry, chunks, &out); });
  }

  void CopyBlocks(const FileEntry& entry, const std::vector<ShardChunk>& chunks, File* out) {
    Xxh3Stream whole;
    const auto copy = [&](const Block& block) {
      if (!FindBlock(entry, block) || out == nullptr) return;
      out->Write(buffer_);
      whole.Update(buffer_);
    };
    const size_t lost_before = report_.lost.size();
    copy({0, entry.header_bytes, entry.header_crc32c, nullptr});
    for (const ShardChunk& c : chunks) {
      const uint64_t bytes = ChunkBytes(*c.tensor, *c.chunk);
      for (size_t i = 0; i < c.chunk->crc32c.size(); ++i) {
        const uint64_t begin = i * kCrcBlockBytes;
        copy({c.chunk->file_offset + begin, std::min(kCrcBlockBytes, bytes - begin),
              c.chunk->crc32c[i], c.tensor});
      }
    }
    if (out != nullptr && report_.lost.size() == lost_before &&
        whole.HexDigest() != entry.xxh3_128) {
      report_.lost.push_back(DamageOf(entry, {0, entry.size, 0, nullptr},
                                      "every block has its CRC32C, yet the XXH3 of the whole "
                                      "differs: they are of another file"));
    }
  }

  // Fills the buffer with a block from the first copy in which it is good; false if none is.
  bool FindBlock(const FileEntry& entry, const Block& block) {
    ++report_.blocks;
    std::array<std::string, 2> problems;
    for (size_t i = 0; i < copies_.size(); ++i) {
      problems[i] = TryRead(i, block);
      if (!problems[i].empty()) continue;
      if (i > 0) report_.replaced.push_back(DamageOf(entry, block, problems[0]));
      return true;
    }
    report_.lost.push_back(DamageOf(entry, block,
                                    fmt::format("bad in both copies: {} in {}, {} in {}",
                                                problems[0], copies_[0], problems[1], copies_[1])));
    return false;
  }

  // "" if the buffer now holds the block as it was committed.
  std::string TryRead(size_t copy, const Block& block) {
    if (!sources_[copy]) return open_errors_[copy];
    buffer_.resize(block.bytes);
    try {
      sources_[copy]->ReadAt(block.begin, buffer_);
    } catch (const Error& error) {
      return error.message();
    }
    return Crc32c(buffer_) == block.crc32c ? "" : "CRC32C differs from the committed one";
  }

  static Damage DamageOf(const FileEntry& entry, const Block& block, std::string message) {
    return {.file = entry.name,
            .tensor = block.tensor != nullptr ? block.tensor->name : "",
            .kind = block.tensor != nullptr ? block.tensor->kind : "",
            .byte_begin = block.begin,
            .byte_end = block.begin + block.bytes,
            .message = std::move(message)};
  }

  std::array<std::string, 2> copies_;
  std::array<std::optional<CommitRecord>, 2> records_;
  RepairReport report_;
  std::array<std::optional<File>, 2> sources_;
  std::array<std::string, 2> open_errors_;
  std::vector<std::byte> buffer_;
};

}  // namespace

RepairReport RepairCheckpoint(const std::string& damaged, const std::string& replica,
                              const std::string& directory) {
  return Repair(damaged, replica).Run(directory);
}

}  // namespace cairn
