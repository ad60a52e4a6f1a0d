#include "runtime/checkpoint/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <span>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {
namespace {

constexpr size_t kMaxFileNameBytes = 255;
constexpr std::string_view kShardSuffix = ".safetensors";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Printable ASCII without spaces.
bool IsPlainText(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

// A plain file name that no other file of a checkpoint has; never hidden, never a path.
bool IsShardName(std::string_view name) {
  return name.size() > kShardSuffix.size() && name.size() <= kMaxFileNameBytes &&
         name.ends_with(kShardSuffix) && !name.starts_with('.') && IsPlainText(name) &&
         name.find('/') == std::string_view::npos;
}

bool IsTensorName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxTensorNameBytes && IsPlainText(name) &&
         name.find_first_of("@#") == std::string_view::npos;
}

bool IsKind(std::string_view kind) {
  return !kind.empty() && kind.size() <= 64 && std::ranges::all_of(kind, [](char c) {
    return (c >= 'a' && c <= 'z') || IsDigit(c) || c == '_';
  });
}

bool IsHexDigest(std::string_view text) {
  return text.size() == 32 &&
         std::ranges::all_of(text, [](char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); });
}

// The checks of one manifest; every failure throws at `where`.
class Validator {
 public:
  Validator(const Manifest& manifest, const std::string& where)
      : manifest_(manifest), where_(where) {}

  void Run() const {
    CheckScalars();
    CheckFiles();
    size_t chunks = 0;
    for (const TensorEntry& tensor : manifest_.tensors) {
      CheckTensor(tensor);
      chunks += tensor.chunks.size();
    }
    CheckTensorsDiffer();
    CheckClaims(chunks);
  }

 private:
  // A chunk, which claims bytes of a file and a name in it.
  struct Claim {
    const TensorEntry* tensor;
    const Chunk* chunk;
  };

  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorKind::kCheckpoint, where_, format, std::forward<Args>(args)...);
  }

  template <typename... Args>
  [[noreturn]] void FailAt(const TensorEntry& tensor, fmt::format_string<Args...> format,
                           Args&&... args) const {
    Fail("tensor \"{}\" ({}): {}", tensor.name, tensor.kind,
         fmt::format(format, std::forward<Args>(args)...));
  }

  void CheckScalars() const {
    const Manifest& m = manifest_;
    if (m.format_version == 0 || m.format_version > kCheckpointFormat) {
      Fail("format version {} is not one that this program reads (1 to {})", m.format_version,
           kCheckpointFormat);
    }
    if (m.iteration < 0 || m.consumed_samples < 0 || m.tokens < 0) {
      Fail("iteration {}, consumed samples {} and tokens {} must not be negative", m.iteration,
           m.consumed_samples, m.tokens);
    }
    const TrainingState& state = m.training_state;
    if (!std::isfinite(state.loss_scale) || state.loss_scale <= 0) {
      Fail("loss scale {} is not a finite positive number", state.loss_scale);
    }
    if (state.optimizer_steps < 0 || state.skipped_iterations < 0) {
      Fail("optimizer steps {} and skipped iterations {} must not be negative",
           state.optimizer_steps, state.skipped_iterations);
    }
    if (state.skipped_samples < 0) {
      Fail("skipped samples {} must not be negative", state.skipped_samples);
    }
    if (state.loss_trend_count < 0 || !std::isfinite(state.loss_trend_mean) ||
        !std::isfinite(state.loss_trend_variance) || state.loss_trend_variance < 0) {
      Fail("a loss trend of {} losses with mean {} and variance {} is none", state.loss_trend_count,
           state.loss_trend_mean, state.loss_trend_variance);
    }
    if (m.config_text.size() > kMaxConfigTextBytes || m.layout.size() > kMaxLayoutEntries) {
      Fail("a config text of {} bytes or {} layout entries is too large", m.config_text.size(),
           m.layout.size());
    }
    for (const auto& [key, value] : m.layout) {
      if (!IsPlainText(key) || !IsPlainText(value)) Fail("a layout entry is not plain text");
    }
  }

  void CheckFiles() const {
    std::unordered_set<std::string_view> names;
    for (const FileEntry& file : manifest_.files) {
      if (!IsShardName(file.name)) {
        Fail("file name \"{:.300}\" is not a plain name ending in {}", file.name, kShardSuffix);
      }
      if (!names.insert(file.name).second) Fail("file \"{}\" occurs twice", file.name);
      if (file.header_bytes < 10 || file.header_bytes > file.size ||
          file.header_bytes > kMaxSafetensorsHeaderBytes + 8) {
        Fail("file \"{}\": a header of {} bytes in a file of {}", file.name, file.header_bytes,
             file.size);
      }
      if (!IsHexDigest(file.xxh3_128)) {
        Fail("file \"{}\": its XXH3 digest is not 32 hexadecimal digits", file.name);
      }
    }
  }

  void CheckTensor(const TensorEntry& tensor) const {
    if (!IsTensorName(tensor.name)) {
      Fail("tensor name \"{:.100}\": 1 to {} printable characters without @ and # are accepted",
           tensor.name, kMaxTensorNameBytes);
    }
    if (!IsKind(tensor.kind)) {
      FailAt(tensor, "a kind has 1 to 64 lower-case letters, digits and _");
    }
    if (!TensorBytes(tensor.dtype, tensor.shape)) {
      FailAt(tensor, "dtype \"{:.20}\" with shape [{}] is not valid", tensor.dtype,
             fmt::join(tensor.shape, ","));
    }
    std::vector<Rectangle> tiles;
    tiles.reserve(tensor.chunks.size());
    for (const Chunk& chunk : tensor.chunks) tiles.push_back({chunk.offset, chunk.extent});
    const std::string problem = CheckTiling(tensor.shape, tiles);
    if (!problem.empty()) FailAt(tensor, "{}", problem);
    for (const Chunk& chunk : tensor.chunks) CheckChunk(tensor, chunk);
  }

  // The rectangle itself is inside the tensor's shape already.
  void CheckChunk(const TensorEntry& tensor, const Chunk& chunk) const {
    if (chunk.file >= manifest_.files.size()) {
      FailAt(tensor, "file number {} of {}", chunk.file, manifest_.files.size());
    }
    const FileEntry& file = manifest_.files[chunk.file];
    if (chunk.entry.empty() || chunk.entry.size() > kMaxTensorNameBytes ||
        !IsPlainText(chunk.entry)) {
      FailAt(tensor, "entry \"{:.100}\" of \"{}\" is malformed", chunk.entry, file.name);
    }
    const uint64_t bytes = ChunkBytes(tensor, chunk);
    uint64_t end = 0;
    if (chunk.file_offset < file.header_bytes ||
        __builtin_add_overflow(chunk.file_offset, bytes, &end) || end > file.size) {
      FailAt(tensor, "bytes {}+{} are not in the data [{},{}) of \"{}\"", chunk.file_offset, bytes,
             file.header_bytes, file.size, file.name);
    }
    if (chunk.crc32c.size() != CrcBlockCount(bytes)) {
      FailAt(tensor, "{} checksums for {} bytes, {} were expected", chunk.crc32c.size(), bytes,
             CrcBlockCount(bytes));
    }
  }

  // Sorted lists instead of sets: a hostile manifest is all names, and a set is many times its
  // size.
  void CheckTensorsDiffer() const {
    std::vector<const TensorEntry*> tensors;
    tensors.reserve(manifest_.tensors.size());
    for (const TensorEntry& tensor : manifest_.tensors) tensors.push_back(&tensor);
    const auto key = [](const TensorEntry* t) { return std::tie(t->name, t->kind); };
    std::ranges::sort(tensors, {}, key);
    const auto twice = std::ranges::adjacent_find(tensors, {}, key);
    if (twice != tensors.end()) FailAt(**twice, "occurs twice");
  }

  void CheckClaims(size_t chunks) const {
    std::vector<Claim> claims;
    claims.reserve(chunks);
    for (const TensorEntry& tensor : manifest_.tensors) {
      for (const Chunk& chunk : tensor.chunks) claims.push_back({&tensor, &chunk});
    }
    const auto key = [](const Claim& c) { return std::tie(c.chunk->file, c.chunk->entry); };
    std::ranges::sort(claims, {}, key);
    const auto twice = std::ranges::adjacent_find(claims, {}, key);
    if (twice != claims.end()) {
      FailAt(*twice->tensor, "entry \"{}\" of \"{}\" occurs twice", twice->chunk->entry,
             manifest_.files[twice->chunk->file].name);
    }
    std::ranges::sort(claims, [](const Claim& a, const Claim& b) {
      const auto place = [](const Claim& c) {
        return std::tie(c.chunk->file, c.chunk->file_offset);
      };
      if (place(a) != place(b)) return place(a) < place(b);
      return ChunkBytes(*a.tensor, *a.chunk) < ChunkBytes(*b.tensor, *b.chunk);
    });
    auto claim = claims.begin();
    for (size_t i = 0; i < manifest_.files.size(); ++i) {
      const auto begin = claim;
      while (claim != claims.end() && claim->chunk->file == i) ++claim;
      CheckFilled(manifest_.files[i], {begin, claim});
    }
  }

  // Digests cover headers and chunks: a byte that is in neither would go unchecked.
  void CheckFilled(const FileEntry& file, std::span<const Claim> claims) const {
    uint64_t end = file.header_bytes;
    for (const Claim& claim : claims) {
      if (claim.chunk->file_offset != end) {
        FailAt(*claim.tensor, "begins at byte {} of \"{}\" where {} was expected",
               claim.chunk->file_offset, file.name, end);
      }
      end += ChunkBytes(*claim.tensor, *claim.chunk);
    }
    if (end != file.size) {
      Fail("file \"{}\" has {} bytes, its chunks end at {}", file.name, file.size, end);
    }
  }

  const Manifest& manifest_;
  const std::string& where_;
};

// The value of the digits at the front of `text`, which it removes; compared as text, so that no
// number is too long.
std::string_view TakeNumber(std::string_view& text) {
  size_t length = 0;
  while (length < text.size() && IsDigit(text[length])) ++length;
  std::string_view number = text.substr(0, length);
  text.remove_prefix(length);
  while (number.size() > 1 && number.front() == '0') number.remove_prefix(1);
  return number;
}

}  // namespace

const TensorEntry* Manifest::Find(std::string_view name, std::string_view kind) const {
  const auto found = std::ranges::find_if(tensors, [&](const TensorEntry& tensor) {
    return tensor.name == name && tensor.kind == kind;
  });
  return found == tensors.end() ? nullptr : &*found;
}

std::string ChunkEntryName(const TensorEntry& tensor, const Chunk& chunk) {
  std::string name = tensor.name;
  if (tensor.kind != kWeightKind) name += "@" + tensor.kind;
  if (chunk.extent != tensor.shape) {
    name += fmt::format("#{}", fmt::join(chunk.offset, ","));
  }
  return name;
}

uint64_t ChunkBytes(const TensorEntry& tensor, const Chunk& chunk) {
  const std::optional<uint64_t> bytes = TensorBytes(tensor.dtype, chunk.extent);
  CHECK(bytes.has_value()) << "chunk of " << tensor.name << " was not validated";
  return *bytes;
}

bool NaturalLess(std::string_view a, std::string_view b) {
  const std::string_view whole_a = a;
  const std::string_view whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (IsDigit(a.front()) && IsDigit(b.front())) {
      const std::string_view x = TakeNumber(a);
      const std::string_view y = TakeNumber(b);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  if (a.empty() != b.empty()) return a.empty();
  return whole_a < whole_b;  // "01" and "1": any fixed order will do
}

void MergeShards(std::vector<ShardResult> shards, Manifest& manifest) {
  const auto key = [](const TensorEntry& tensor) { return tensor.name + "@" + tensor.kind; };
  std::unordered_map<std::string, size_t> index;
  for (size_t i = 0; i < manifest.tensors.size(); ++i) index.emplace(key(manifest.tensors[i]), i);
  for (ShardResult& shard : shards) {
    const auto file = static_cast<uint32_t>(manifest.files.size());
    for (TensorEntry& tensor : shard.tensors) {
      for (Chunk& chunk : tensor.chunks) chunk.file = file;
      const auto [found, is_new] = index.emplace(key(tensor), manifest.tensors.size());
      if (is_new) {
        manifest.tensors.push_back(std::move(tensor));
        continue;
      }
      TensorEntry& merged = manifest.tensors[found->second];
      if (merged.dtype != tensor.dtype || merged.shape != tensor.shape) {
        Throw(ErrorKind::kCheckpoint, shard.file.name,
              "tensor \"{}\" ({}) is {} [{}] here, {} [{}] in another shard", tensor.name,
              tensor.kind, tensor.dtype, fmt::join(tensor.shape, ","), merged.dtype,
              fmt::join(merged.shape, ","));
      }
      std::ranges::move(tensor.chunks, std::back_inserter(merged.chunks));
    }
    manifest.files.push_back(std::move(shard.file));
  }
  std::ranges::sort(manifest.tensors, [](const TensorEntry& a, const TensorEntry& b) {
    return a.name == b.name ? a.kind < b.kind : NaturalLess(a.name, b.name);
  });
}

void ValidateManifest(const Manifest& manifest, const std::string& where) {
  Validator(manifest, where).Run();
}

}  // namespace cairn
