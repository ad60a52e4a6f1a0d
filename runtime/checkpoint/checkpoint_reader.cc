#include "runtime/checkpoint/checkpoint_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {
namespace {

// A checkpoint can have more shards than a process may have open files.
constexpr size_t kMaxOpenFiles = 64;

std::string Key(std::string_view name, std::string_view kind) {
  return fmt::format("{}@{}", name, kind);
}

}  // namespace

// Copies bytes out of one chunk, block by block, each checked against its checksum.
class CheckpointReader::BlockSource {
 public:
  BlockSource(const File& file, const TensorEntry& tensor, const Chunk& chunk, uint64_t& bytes_read)
      : file_(file),
        tensor_(tensor),
        chunk_(chunk),
        bytes_(ChunkBytes(tensor, chunk)),
        bytes_read_(bytes_read) {}

  // Copies bytes [begin, begin + out.size()) of the chunk. Ascending calls read each block once.
  void Copy(uint64_t begin, std::span<std::byte> out) {
    while (!out.empty()) {
      const uint64_t block = begin / kCrcBlockBytes;
      const uint64_t block_begin = block * kCrcBlockBytes;
      const uint64_t block_bytes = std::min(kCrcBlockBytes, bytes_ - block_begin);
      const uint64_t skip = begin - block_begin;
      const auto piece = out.first(std::min<uint64_t>(out.size(), block_bytes - skip));
      if (piece.size() == block_bytes) {
        Load(block, piece);  // a whole block needs no stop on its way
      } else {
        if (block != buffered_block_) {
          buffer_.resize(block_bytes);
          Load(block, buffer_);
          buffered_block_ = block;
        }
        std::memcpy(piece.data(), buffer_.data() + skip, piece.size());
      }
      begin += piece.size();
      out = out.subspan(piece.size());
    }
  }

 private:
  void Load(uint64_t block, std::span<std::byte> out) const {
    const uint64_t begin = chunk_.file_offset + block * kCrcBlockBytes;
    file_.ReadAt(begin, out);
    bytes_read_ += out.size();
    if (Crc32c(out) != chunk_.crc32c[block]) {
      Throw(ErrorKind::kCheckpoint, file_.path(),
            "tensor \"{}\" ({}), bytes [{},{}): CRC32C differs from the committed one",
            tensor_.name, tensor_.kind, begin, begin + out.size());
    }
  }

  const File& file_;
  const TensorEntry& tensor_;
  const Chunk& chunk_;
  uint64_t bytes_;
  uint64_t& bytes_read_;
  uint64_t buffered_block_ = std::numeric_limits<uint64_t>::max();
  std::vector<std::byte> buffer_;
};

CheckpointReader::CheckpointReader(std::string directory)
    : directory_(std::move(directory)),
      manifest_(LoadManifest(directory_)),
      chunks_(ChunksByFile(manifest_.tensors, manifest_.files.size())),
      checked_(manifest_.files.size(), false) {
  for (const TensorEntry& tensor : manifest_.tensors) {
    tensors_.emplace(Key(tensor.name, tensor.kind), &tensor);
  }
}

const TensorEntry* CheckpointReader::Find(std::string_view name, std::string_view kind) const {
  const auto found = tensors_.find(Key(name, kind));
  return found == tensors_.end() ? nullptr : found->second;
}

const TensorEntry& CheckpointReader::Require(std::string_view name, std::string_view kind,
                                             std::span<const int64_t> offset,
                                             std::span<const int64_t> extent,
                                             uint64_t* bytes) const {
  const TensorEntry* const tensor = Find(name, kind);
  if (tensor == nullptr) {
    Throw(ErrorKind::kCheckpoint, directory_, "has no tensor \"{}\" of kind {}", name, kind);
  }
  const std::optional<uint64_t> size = TensorBytes(tensor->dtype, extent);
  if (!size || !IsInside({offset, extent}, tensor->shape)) {
    Throw(ErrorKind::kCheckpoint, directory_,
          "tensor \"{}\" ({}) is {} [{}]: [{}]+[{}] is no part of it", name, kind, tensor->dtype,
          fmt::join(tensor->shape, ","), fmt::join(offset, ","), fmt::join(extent, ","));
  }
  *bytes = *size;
  return *tensor;
}

void CheckpointReader::Read(std::string_view name, std::string_view kind,
                            std::span<const int64_t> offset, std::span<const int64_t> extent,
                            std::span<std::byte> out) {
  uint64_t bytes = 0;
  const TensorEntry& tensor = Require(name, kind, offset, extent, &bytes);
  if (out.size() != bytes) {
    Throw(ErrorKind::kCheckpoint, directory_,
          "tensor \"{}\" ({}): {} [{}] has {} bytes and does not fit into {}", name, kind,
          tensor.dtype, fmt::join(extent, ","), bytes, out.size());
  }
  ReadPart(name, kind, offset, extent, 0, out);
}

void CheckpointReader::ReadPart(std::string_view name, std::string_view kind,
                                std::span<const int64_t> offset, std::span<const int64_t> extent,
                                uint64_t begin, std::span<std::byte> out) {
  uint64_t bytes = 0;
  const TensorEntry& tensor = Require(name, kind, offset, extent, &bytes);
  const uint64_t element = SafetensorsDTypeBytes(tensor.dtype).value_or(1);
  if (begin > bytes || out.size() > bytes - begin || begin % element != 0 ||
      out.size() % element != 0) {
    Throw(ErrorKind::kCheckpoint, directory_,
          "tensor \"{}\" ({}): bytes {}+{} are no elements of {} [{}]", name, kind, begin,
          out.size(), tensor.dtype, fmt::join(extent, ","));
  }
  const uint64_t first = begin / element;
  const uint64_t last = first + out.size() / element;
  for (const Chunk& chunk : tensor.chunks) {
    std::optional<BlockSource> source;  // opens no file that has nothing to give
    ForEachRun({chunk.offset, chunk.extent}, {offset, extent}, [&](const CommonRun& run) {
      const uint64_t from = std::max(run.wanted_begin, first);
      const uint64_t to = std::min(run.wanted_begin + run.length, last);
      if (from >= to) return;
      if (!source) source.emplace(Shard(chunk.file), tensor, chunk, bytes_read_);
      source->Copy((run.chunk_begin + (from - run.wanted_begin)) * element,
                   out.subspan((from - first) * element, (to - from) * element));
    });
  }
}

const File& CheckpointReader::Shard(uint32_t index) {
  const auto found = open_.find(index);
  if (found != open_.end()) return found->second;
  if (open_.size() == kMaxOpenFiles) open_.erase(open_.begin());

  const FileEntry& entry = manifest_.files.at(index);
  File file = File::OpenForRead(JoinPath(directory_, entry.name), Links::kRefuse);
  if (!checked_[index]) {
    const uint64_t size = file.Size();
    if (size != entry.size) {
      Throw(ErrorKind::kCheckpoint, file.path(), "has {} bytes, {} were committed", size,
            entry.size);
    }
    bytes_read_ += entry.header_bytes;
    const std::string problem = CheckShardHeader(file, entry, chunks_[index]);
    if (!problem.empty()) Throw(ErrorKind::kCheckpoint, file.path(), "{}", problem);
    checked_[index] = true;
  }
  return open_.emplace(index, std::move(file)).first->second;
}

}  // namespace cairn
