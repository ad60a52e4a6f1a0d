#include <algorithm>
#include <bit>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/tiling.h"

// Reads the bytes of manifest.proto's messages straight into the structs of manifest.h. protobuf's
// own parser would first build messages many times the size of their bytes, whatever these say, and
// keep what it does not know; here the first mistake ends the reading, at its byte, and memory is
// taken only for what can be valid.

namespace cairn {
namespace {

static_assert(std::endian::native == std::endian::little, "fixed-size values are little-endian");

enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// The least bytes of a record of each type that can be valid: names of one letter, a dtype of two,
// one chunk with an offset, a digest. A shorter one is refused before memory is taken for it.
constexpr size_t kLeastTensorBytes = 23;
constexpr size_t kLeastChunkBytes = 11;
constexpr size_t kLeastFileBytes = 34;

struct Field {
  size_t begin = 0;  // its first byte in the file
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;      // of numbers
  std::string_view bytes;  // of everything else
};

class Decoder {
 public:
  Decoder(std::string_view file, const std::string& where) : file_(file), where_(where) {}

  Manifest DecodeManifest() const {
    Manifest manifest;
    // What the bytes leave out is zero.
    manifest.format_version = 0;
    manifest.training_state.loss_scale = 0;
    Reserve(file_, 8, kLeastTensorBytes, manifest.tensors);
    Reserve(file_, 9, kLeastFileBytes, manifest.files);
    ForEachField(file_, {7, 8, 9}, [&](const Field& field) {
      switch (field.number) {
        case 1:
          return Number(field, manifest.format_version);
        case 2:
          return Number(field, manifest.iteration);
        case 3:
          return Number(field, manifest.consumed_samples);
        case 4:
          return Number(field, manifest.tokens);
        case 5:
          return Text(field, manifest.config_text);
        case 6:
          return DecodeState(field, manifest.training_state);
        case 7:
          return DecodeLayout(field, manifest.layout);
        case 8:
          manifest.tensors.push_back(DecodeTensor(field));
          return;
        case 9:
          manifest.files.push_back(DecodeFile(field));
          return;
        default:
          Fail(field, "there is no such field");
      }
    });
    return manifest;
  }

  ShardResult DecodeShard() const {
    ShardResult shard;
    Reserve(file_, 2, kLeastTensorBytes, shard.tensors);
    ForEachField(file_, {2}, [&](const Field& field) {
      switch (field.number) {
        case 1:
          shard.file = DecodeFile(field);
          return;
        case 2:
          shard.tensors.push_back(DecodeTensor(field));
          return;
        default:
          Fail(field, "there is no such field");
      }
    });
    return shard;
  }

 private:
  void DecodeState(const Field& message, TrainingState& state) const {
    ForEachField(Bytes(message), {}, [&](const Field& field) {
      switch (field.number) {
        case 1:
          return Number(field, state.loss_scale);
        case 2:
          return Number(field, state.loss_scale_growth_tracker);
        case 3:
          return Number(field, state.loss_scale_hysteresis);
        case 4:
          return Number(field, state.optimizer_steps);
        case 5:
          return Number(field, state.skipped_iterations);
        case 6:
          return Number(field, state.seed);
        case 7:
          return Number(field, state.skipped_samples);
        case 8:
          return Number(field, state.loss_trend_count);
        case 9:
          return Number(field, state.loss_trend_mean);
        case 10:
          return Number(field, state.loss_trend_variance);
        default:
          Fail(field, "there is no such field");
      }
    });
  }

  void DecodeLayout(const Field& message, std::map<std::string, std::string>& layout) const {
    std::string key;
    std::string value;
    ForEachField(Bytes(message), {}, [&](const Field& field) {
      if (field.number != 1 && field.number != 2) Fail(field, "there is no such field");
      Text(field, field.number == 1 ? key : value);
    });
    if (layout.size() == kMaxLayoutEntries) {
      Fail(message, "more than {} layout entries", kMaxLayoutEntries);
    }
    if (!layout.emplace(std::move(key), std::move(value)).second) {
      Fail(message, "a layout entry occurs twice");
    }
  }

  TensorEntry DecodeTensor(const Field& message) const {
    TensorEntry tensor;
    Reserve(Bytes(message), 5, kLeastChunkBytes, tensor.chunks);
    ForEachField(message.bytes, {5}, [&](const Field& field) {
      switch (field.number) {
        case 1:
          return Text(field, tensor.name);
        case 2:
          return Text(field, tensor.kind);
        case 3:
          return Text(field, tensor.dtype);
        case 4:
          return Dimensions(field, tensor.shape);
        case 5:
          tensor.chunks.push_back(DecodeChunk(field));
          return;
        default:
          Fail(field, "there is no such field");
      }
    });
    return tensor;
  }

  Chunk DecodeChunk(const Field& message) const {
    Chunk chunk;
    ForEachField(Bytes(message), {}, [&](const Field& field) {
      switch (field.number) {
        case 1:
          return Number(field, chunk.file);
        case 2:
          return Text(field, chunk.entry);
        case 3:
          return Number(field, chunk.file_offset);
        case 4:
          return Dimensions(field, chunk.offset);
        case 5:
          return Dimensions(field, chunk.extent);
        case 6:
          if (Bytes(field).size() % sizeof(uint32_t) != 0) Fail(field, "is cut off");
          chunk.crc32c.resize(field.bytes.size() / sizeof(uint32_t));
          std::ranges::copy(field.bytes, reinterpret_cast<char*>(chunk.crc32c.data()));
          return;
        default:
          Fail(field, "there is no such field");
      }
    });
    return chunk;
  }

  FileEntry DecodeFile(const Field& message) const {
    FileEntry file;
    ForEachField(Bytes(message), {}, [&](const Field& field) {
      switch (field.number) {
        case 1:
          return Text(field, file.name);
        case 2:
          return Number(field, file.size);
        case 3:
          return Number(field, file.header_bytes);
        case 4:
          Expect(field, WireType::kFixed32);
          file.header_crc32c = static_cast<uint32_t>(field.value);
          return;
        case 5:
          return Text(field, file.xxh3_128);
        default:
          Fail(field, "there is no such field");
      }
    });
    return file;
  }

  // Calls `visit` for each field of a message; only those of `repeated` may occur twice.
  template <typename Visit>
  void ForEachField(std::string_view message, std::initializer_list<uint32_t> repeated,
                    Visit visit) const {
    uint32_t seen = 0;
    while (!message.empty()) {
      const Field field = TakeField(message);
      const uint32_t bit = field.number < 32 ? uint32_t{1} << field.number : 0;
      if ((seen & bit) != 0 && std::ranges::count(repeated, field.number) == 0) {
        Fail(field, "occurs twice");
      }
      seen |= bit;
      visit(field);
    }
  }

  // Takes memory for the records of field `number`, none of which is shorter than `least_bytes`.
  template <typename Record>
  void Reserve(std::string_view message, uint32_t number, size_t least_bytes,
               std::vector<Record>& records) const {
    size_t count = 0;
    while (!message.empty()) {
      const Field field = TakeField(message);
      if (field.number != number) continue;
      if (Bytes(field).size() < least_bytes) {
        Fail(field, "has {} bytes, at least {} were expected", field.bytes.size(), least_bytes);
      }
      ++count;
    }
    records.reserve(count);
  }

  // Removes the first field of `message`.
  Field TakeField(std::string_view& message) const {
    Field field;
    field.begin = static_cast<size_t>(message.data() - file_.data());
    const uint64_t tag = TakeVarint(field, message);
    if (tag >> 3 > std::numeric_limits<uint32_t>::max()) Fail(field, "there is no such field");
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = static_cast<WireType>(tag & 7);
    switch (field.type) {
      case WireType::kVarint:
        field.value = TakeVarint(field, message);
        break;
      case WireType::kFixed64:
        field.bytes = Take(field, sizeof(uint64_t), message);
        std::memcpy(&field.value, field.bytes.data(), sizeof(uint64_t));
        break;
      case WireType::kBytes:
        field.bytes = Take(field, TakeVarint(field, message), message);
        break;
      case WireType::kFixed32:
        field.bytes = Take(field, sizeof(uint32_t), message);
        std::memcpy(&field.value, field.bytes.data(), sizeof(uint32_t));
        break;
      default:
        Fail(field, "there is no such type of field");
    }
    return field;
  }

  std::string_view Take(const Field& field, uint64_t bytes, std::string_view& message) const {
    if (bytes > message.size()) {
      Fail(field, "has {} bytes where {} are left", bytes, message.size());
    }
    const std::string_view taken = message.substr(0, bytes);
    message.remove_prefix(bytes);
    return taken;
  }

  // Seven bits a byte, the lowest first.
  uint64_t TakeVarint(const Field& field, std::string_view& message) const {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(Take(field, 1, message).front());
      if (shift == 63 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    Fail(field, "has a number of more than 64 bits");
  }

  void Expect(const Field& field, WireType type) const {
    if (field.type != type) {
      Fail(field, "has wire type {}, not {}", static_cast<uint32_t>(field.type),
           static_cast<uint32_t>(type));
    }
  }

  std::string_view Bytes(const Field& field) const {
    Expect(field, WireType::kBytes);
    return field.bytes;
  }

  template <typename T>
  void Number(const Field& field, T& number) const {
    Expect(field, WireType::kVarint);
    if (std::is_same_v<T, uint32_t> && field.value > std::numeric_limits<uint32_t>::max()) {
      Fail(field, "{} is too large", field.value);
    }
    number = static_cast<T>(field.value);
  }

  void Number(const Field& field, double& number) const {
    Expect(field, WireType::kFixed64);
    number = std::bit_cast<double>(field.value);
  }

  void Text(const Field& field, std::string& text) const { text = Bytes(field); }

  void Dimensions(const Field& field, std::vector<int64_t>& dimensions) const {
    std::string_view rest = Bytes(field);
    // Each number ends in a byte below 0x80.
    const auto count = std::ranges::count_if(rest, [](char c) { return (c & 0x80) == 0; });
    if (std::cmp_greater(count, kMaxRank)) Fail(field, "more than {} dimensions", kMaxRank);
    dimensions.reserve(static_cast<size_t>(count));
    while (!rest.empty()) dimensions.push_back(static_cast<int64_t>(TakeVarint(field, rest)));
  }

  template <typename... Args>
  [[noreturn]] void Fail(const Field& field, fmt::format_string<Args...> format,
                         Args&&... args) const {
    Throw(ErrorKind::kCheckpoint, where_, "byte {}, field {}: {}", field.begin, field.number,
          fmt::format(format, std::forward<Args>(args)...));
  }

  std::string_view file_;
  const std::string& where_;
};

}  // namespace

Manifest ParseManifest(std::string_view bytes, const std::string& where) {
  Manifest manifest = Decoder(bytes, where).DecodeManifest();
  ValidateManifest(manifest, where);
  return manifest;
}

ShardResult ParseShardResult(std::string_view bytes) {
  return Decoder(bytes, "shard description").DecodeShard();
}

}  // namespace cairn
