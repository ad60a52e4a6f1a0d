#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr size_t kLengthBytes = sizeof(uint64_t);
constexpr size_t kMaxTokenBytes = size_t{1} << 20;
constexpr const char* kMetadataKey = "__metadata__";
constexpr std::string_view kDTypeNames =
    "BOOL, U8, I8, F8_E4M3, F8_E5M2, F8_E8M0, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64, "
    "C64";

// Receives the JSON piece by piece: a tree would hide duplicate keys and could be deep.
class HeaderSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderSax(SafetensorsHeader& header, const std::string& where) : header_(header), where_(where) {}

  bool null() override { Unexpected("null"); }
  bool boolean(bool /*value*/) override { Unexpected("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override { Unexpected("a negative number"); }
  bool number_float(number_float_t /*value*/, const string_t& text) override {
    Unexpected(text.c_str());
  }
  bool binary(binary_t& /*value*/) override { Unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        Fail(fmt::format("a dimension of {} is too large", value));
      }
      if (entry_.shape.size() == kMaxRank) Fail(fmt::format("more than {} dimensions", kMaxRank));
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else if (state_ == State::kOffsets) {
      if (offset_count_ == 2) Fail("data_offsets has more than two numbers");
      (offset_count_++ == 0 ? entry_.begin : entry_.end) = value;
    } else {
      Unexpected("a number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      if (header_.metadata.size() == kMaxMetadataEntries) {
        Fail(fmt::format("more than {} metadata entries", kMaxMetadataEntries));
      }
      header_.metadata[key_] = std::move(value);
    } else if (state_ == State::kEntry && key_ == "dtype") {
      if (!SafetensorsDTypeBytes(value)) {
        Fail(fmt::format("dtype \"{}\" is not one of {}", value, kDTypeNames));
      }
      entry_.dtype = std::move(value);
    } else {
      Unexpected("a string");
    }
    return true;
  }

  bool key(string_t& value) override {
    key_ = std::move(value);
    switch (state_) {
      case State::kTop:
        if (key_.size() > kMaxTensorNameBytes) {
          Fail(fmt::format("a name of {} bytes, at most {} are accepted", key_.size(),
                           kMaxTensorNameBytes));
        }
        if (key_ == kMetadataKey && std::exchange(has_metadata_, true)) {
          Fail(fmt::format("\"{}\" occurs twice", key_));
        }
        break;
      case State::kMetadata:
        if (header_.metadata.contains(key_)) {
          Fail(fmt::format("metadata key \"{}\" occurs twice", key_));
        }
        break;
      default:
        MarkSeen();
    }
    return true;
  }

  bool start_object(size_t /*count*/) override {
    if (state_ == State::kStart) {
      state_ = State::kTop;
    } else if (state_ == State::kTop && key_ == kMetadataKey) {
      state_ = State::kMetadata;
    } else if (state_ == State::kTop) {
      state_ = State::kEntry;
      entry_ = {};
      entry_.name = key_;
      seen_ = {};
      offset_count_ = 0;
    } else {
      Unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::kEntry) {
      if (std::ranges::count(seen_, true) != 3 || offset_count_ != 2) {
        Fail("dtype, shape and two data_offsets are all required");
      }
      header_.entries.push_back(std::move(entry_));
      entry_ = {};
    }
    // Only the top object ends in kTop, and nothing can follow it.
    state_ = State::kTop;
    return true;
  }

  bool start_array(size_t /*count*/) override {
    if (state_ == State::kEntry && key_ == "shape") {
      state_ = State::kShape;
    } else if (state_ == State::kEntry && key_ == "data_offsets") {
      state_ = State::kOffsets;
    } else {
      Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    state_ = State::kEntry;
    return true;
  }

  bool parse_error(size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    Throw(ErrorKind::kCheckpoint, where_, "header byte {}: {}", position, error.what());
  }

 private:
  enum class State { kStart, kTop, kMetadata, kEntry, kShape, kOffsets };

  // Notes that the current member of an entry was named; each may be once.
  void MarkSeen() {
    static constexpr std::array<const char*, 3> kMembers = {"dtype", "shape", "data_offsets"};
    for (size_t i = 0; i < kMembers.size(); ++i) {
      if (key_ != kMembers[i]) continue;
      if (std::exchange(seen_[i], true)) Fail(fmt::format("\"{}\" occurs twice", key_));
      return;
    }
    Fail(fmt::format("member \"{}\" is not one of dtype, shape, data_offsets", key_));
  }

  [[noreturn]] void Unexpected(const char* what) const {
    Fail(fmt::format("{} after \"{}\" is not what the format has there", what, key_));
  }

  [[noreturn]] void Fail(const std::string& message) const {
    if (entry_.name.empty()) Throw(ErrorKind::kCheckpoint, where_, "header: {}", message);
    Throw(ErrorKind::kCheckpoint, where_, "header, tensor \"{}\": {}", entry_.name, message);
  }

  SafetensorsHeader& header_;
  const std::string& where_;
  State state_ = State::kStart;
  std::string key_;
  bool has_metadata_ = false;
  SafetensorsEntry entry_;
  std::array<bool, 3> seen_ = {};
  int offset_count_ = 0;
};

// A look at the JSON before the library reads it, which keeps the longest token several times over:
// refuses one that no header has, and returns how many objects there are.
size_t CountObjects(std::string_view json, const std::string& where) {
  size_t objects = 0;
  bool in_string = false;
  size_t begin = 0;  // of what lies between two quotation marks
  for (size_t i = 0; i < json.size(); ++i) {
    if (in_string && json[i] == '\\') {
      ++i;
    } else if (json[i] == '"') {
      in_string = !in_string;
      begin = i;
    } else if (i - begin > kMaxTokenBytes) {
      Throw(ErrorKind::kCheckpoint, where,
            "header byte {}: more than {} bytes without a quotation mark", begin, kMaxTokenBytes);
    } else if (!in_string && json[i] == '{') {
      ++objects;
    }
  }
  return objects;
}

// A sorted list instead of a set, which would be as large as the header again.
void CheckNamesDiffer(const std::vector<SafetensorsEntry>& entries, const std::string& where) {
  std::vector<const SafetensorsEntry*> sorted;
  sorted.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) sorted.push_back(&entry);
  const auto name = [](const SafetensorsEntry* entry) -> const std::string& { return entry->name; };
  std::ranges::sort(sorted, {}, name);
  const auto twice = std::ranges::adjacent_find(sorted, {}, name);
  if (twice != sorted.end()) {
    Throw(ErrorKind::kCheckpoint, where, "header: \"{}\" occurs twice", (*twice)->name);
  }
}

// Orders the entries by their bytes and checks that these fill the file.
void CheckLayout(SafetensorsHeader& header, uint64_t file_bytes, const std::string& where) {
  std::ranges::sort(header.entries, {}, [](const SafetensorsEntry& entry) {
    return std::tie(entry.begin, entry.end, entry.name);
  });
  uint64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    const auto fail = [&](const std::string& message) {
      Throw(ErrorKind::kCheckpoint, where, "header, tensor \"{}\": {}", entry.name, message);
    };
    if (entry.begin != end) {
      fail(fmt::format("begins at data byte {} where {} was expected: a hole or an overlap",
                       entry.begin, end));
    }
    const std::optional<uint64_t> bytes = TensorBytes(entry.dtype, entry.shape);
    if (!bytes) fail("the shape has too many elements");
    if (entry.end < entry.begin || entry.end - entry.begin != *bytes) {
      fail(fmt::format("data_offsets [{},{}] do not fit the {} bytes of its shape and dtype",
                       entry.begin, entry.end, *bytes));
    }
    end = entry.end;
  }
  if (file_bytes - header.header_bytes != end) {
    Throw(ErrorKind::kCheckpoint, where, "has {} bytes of data, its header says {}",
          file_bytes - header.header_bytes, end);
  }
}

SafetensorsHeader ReadHeader(const File& file) {
  const std::string& where = file.path();
  const uint64_t file_bytes = file.Size();
  if (file_bytes < kLengthBytes + 2) {
    Throw(ErrorKind::kCheckpoint, where, "{} bytes are too few for a safetensors file", file_bytes);
  }
  uint64_t json_bytes = 0;
  file.ReadAt(0, std::as_writable_bytes(std::span(&json_bytes, 1)));
  const uint64_t most = std::min(kMaxSafetensorsHeaderBytes, file_bytes - kLengthBytes);
  if (json_bytes > most) {
    Throw(ErrorKind::kCheckpoint, where, "bytes 0-8: a header of {} bytes, at most {} can be",
          json_bytes, most);
  }
  std::string json(json_bytes, '\0');
  file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(json)));
  return ParseSafetensorsHeader(json, file_bytes, where);
}

}  // namespace

SafetensorsHeader ParseSafetensorsHeader(std::string_view json, uint64_t file_bytes,
                                         const std::string& where) {
  if (json.size() > kMaxSafetensorsHeaderBytes || file_bytes < kLengthBytes ||
      json.size() > file_bytes - kLengthBytes) {
    Throw(ErrorKind::kCheckpoint, where, "a header of {} bytes in a file of {}", json.size(),
          file_bytes);
  }
  if (!json.starts_with('{')) {
    Throw(ErrorKind::kCheckpoint, where, "byte 8: the header does not begin with '{{'");
  }
  // The JSON library takes a zero byte for the end of its input.
  if (json.find('\0') != std::string_view::npos) {
    Throw(ErrorKind::kCheckpoint, where, "the header has a zero byte");
  }
  SafetensorsHeader header;
  header.header_bytes = kLengthBytes + json.size();
  json.remove_suffix(json.size() - 1 - json.find_last_not_of(' '));
  // Memory is taken once, and only for entries that the text has room for.
  static constexpr std::string_view kLeastEntry =
      R"("":{"dtype":"U8","shape":[],"data_offsets":[0,1]})";
  header.entries.reserve(std::min(CountObjects(json, where), json.size() / kLeastEntry.size()));
  HeaderSax sax(header, where);
  nlohmann::json::sax_parse(json.begin(), json.end(), &sax);
  CheckNamesDiffer(header.entries, where);
  CheckLayout(header, file_bytes, where);
  return header;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(File::OpenForRead(path)), header_(ReadHeader(file_)) {
  index_.reserve(header_.entries.size());
  for (size_t i = 0; i < header_.entries.size(); ++i) index_.emplace(header_.entries[i].name, i);
}

const SafetensorsEntry* SafetensorsFile::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

void SafetensorsFile::Read(const SafetensorsEntry& entry, uint64_t begin,
                           std::span<std::byte> out) const {
  const uint64_t bytes = entry.end - entry.begin;
  if (begin > bytes || out.size() > bytes - begin) {
    Throw(ErrorKind::kInternal, file_.path(), "tensor \"{}\" has {} bytes, asked for [{},{}+{})",
          entry.name, bytes, begin, begin, out.size());
  }
  file_.ReadAt(header_.header_bytes + entry.begin + begin, out);
}

}  // namespace cairn
