#include "runtime/data/indexed_dataset.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

constexpr std::array<char, 9> kMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr uint64_t kVersion = 1;
constexpr uint64_t kVersionOffset = 9;
constexpr uint64_t kTypeOffset = 17;
constexpr uint64_t kSequencesOffset = 18;
constexpr uint64_t kDocumentsOffset = 26;
constexpr uint64_t kHeaderBytes = 34;

template <typename... Args>
[[noreturn]] void ThrowAt(const std::string& path, uint64_t offset,
                          fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kData, fmt::format("{}: byte {}", path, offset),
              fmt::format(format, std::forward<Args>(args)...));
}

template <typename T>
T Load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
std::vector<T> ReadArray(const DataFile& file, uint64_t offset, uint64_t count) {
  std::vector<T> values(count);
  file.ReadAt(offset, values.data(), count * sizeof(T));
  return values;
}

template <typename T>
void AppendValue(AtomicDataFile& file, T value) {
  file.Append(&value, sizeof(T));
}

struct Header {
  TokenType type;
  uint64_t sequences;
  uint64_t documents;
};

// Checks the header and that the arrays it promises fill the file exactly, so that the sizes of all
// that is allocated later are bounded by the size of the file.
Header ReadHeader(const DataFile& idx) {
  const std::string& path = idx.path();
  if (idx.size() < kHeaderBytes) {
    ThrowAt(path, idx.size(), "the index ends here; its header alone takes {} bytes", kHeaderBytes);
  }
  std::array<char, kHeaderBytes> bytes;
  idx.ReadAt(0, bytes.data(), bytes.size());
  if (!std::equal(kMagic.begin(), kMagic.end(), bytes.begin())) {
    ThrowAt(path, 0, "not an index of a Megatron dataset: it does not begin with MMIDIDX");
  }
  const auto version = Load<uint64_t>(&bytes[kVersionOffset]);
  if (version != kVersion) {
    ThrowAt(path, kVersionOffset, "index version {}; only version {} is known", version, kVersion);
  }
  const auto code = Load<uint8_t>(&bytes[kTypeOffset]);
  if (code == 6 || code == 7) {
    ThrowAt(path, kTypeOffset, "type {} is {}; tokens are integers", code,
            code == 6 ? "float64" : "float32");
  }
  if (code < 1 || code > 8) {
    ThrowAt(path, kTypeOffset,
            "unknown token type {}; 1 (uint8), 2 (int8), 3 (int16), 4 (int32), 5 (int64) and 8 "
            "(uint16) are known",
            code);
  }
  const auto sequences = Load<uint64_t>(&bytes[kSequencesOffset]);
  const auto documents = Load<uint64_t>(&bytes[kDocumentsOffset]);
  const uint64_t array_bytes = idx.size() - kHeaderBytes;
  if (sequences > array_bytes / 12) {
    ThrowAt(path, kSequencesOffset, "{} sequences take 12 bytes each, the file has {} bytes",
            sequences, idx.size());
  }
  if (documents == 0) {
    ThrowAt(path, kDocumentsOffset, "no document bounds; even an empty dataset has one");
  }
  const uint64_t document_bytes = array_bytes - sequences * 12;
  if (documents > document_bytes / 8 || documents * 8 != document_bytes) {
    ThrowAt(path, kDocumentsOffset,
            "{} sequences and {} document bounds do not fill the file: 34 + 12 x {} + 8 x {} bytes "
            "were expected, it has {}",
            sequences, documents, sequences, documents, idx.size());
  }
  return {static_cast<TokenType>(code), sequences, documents};
}

struct BadToken {
  size_t position;
  int64_t value;
};

template <typename Stored>
std::optional<BadToken> Widen(const std::vector<char>& raw, std::span<int32_t> tokens,
                              int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t value = +Load<Stored>(&raw[i * sizeof(Stored)]);  // + makes a number of int8
    if (value < 0 || value >= vocab_size) return BadToken{i, value};
    tokens[i] = static_cast<int32_t>(value);
  }
  return std::nullopt;
}

// Converts stored tokens to int32, up to the first outside [0, vocab_size), which it gives.
std::optional<BadToken> WidenTokens(TokenType type, const std::vector<char>& raw,
                                    std::span<int32_t> tokens, int64_t vocab_size) {
  switch (type) {
    case TokenType::kUint8:
      return Widen<uint8_t>(raw, tokens, vocab_size);
    case TokenType::kInt8:
      return Widen<int8_t>(raw, tokens, vocab_size);
    case TokenType::kInt16:
      return Widen<int16_t>(raw, tokens, vocab_size);
    case TokenType::kInt32:
      return Widen<int32_t>(raw, tokens, vocab_size);
    case TokenType::kInt64:
      return Widen<int64_t>(raw, tokens, vocab_size);
    case TokenType::kUint16:
      return Widen<uint16_t>(raw, tokens, vocab_size);
  }
  LOG(FATAL) << "token type " << static_cast<int>(type);
}

}  // namespace

size_t TokenTypeBytes(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
    case TokenType::kInt8:
      return 1;
    case TokenType::kInt16:
    case TokenType::kUint16:
      return 2;
    case TokenType::kInt32:
      return 4;
    case TokenType::kInt64:
      return 8;
  }
  LOG(FATAL) << "token type " << static_cast<int>(type);
}

const char* TokenTypeName(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
      return "uint8";
    case TokenType::kInt8:
      return "int8";
    case TokenType::kInt16:
      return "int16";
    case TokenType::kInt32:
      return "int32";
    case TokenType::kInt64:
      return "int64";
    case TokenType::kUint16:
      return "uint16";
  }
  LOG(FATAL) << "token type " << static_cast<int>(type);
}

TokenType TokenTypeForVocabulary(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::kUint16 : TokenType::kInt32;
}

IndexedDataset::IndexedDataset(std::string prefix)
    : prefix_(std::move(prefix)), bin_(prefix_ + ".bin") {
  ReadIndex();
}

void IndexedDataset::ReadIndex() {
  const DataFile idx(prefix_ + ".idx");
  const std::string& path = idx.path();
  const Header header = ReadHeader(idx);
  token_type_ = header.type;
  const uint64_t token_bytes = TokenTypeBytes(token_type_);
  const uint64_t pointers_offset = kHeaderBytes + header.sequences * 4;
  const uint64_t documents_offset = kHeaderBytes + header.sequences * 12;
  lengths_ = ReadArray<int32_t>(idx, kHeaderBytes, header.sequences);
  pointers_ = ReadArray<int64_t>(idx, pointers_offset, header.sequences);
  documents_ = ReadArray<int64_t>(idx, documents_offset, header.documents);

  uint64_t end = 0;  // bytes of .bin accounted for; at most the size of .bin, so no sum overflows
  for (size_t i = 0; i < lengths_.size(); ++i) {
    if (lengths_[i] < 0) {
      ThrowAt(path, kHeaderBytes + i * 4, "sequence {} has a length of {} tokens", i, lengths_[i]);
    }
    if (pointers_[i] < 0 || static_cast<uint64_t>(pointers_[i]) != end) {
      ThrowAt(path, pointers_offset + i * 8,
              "sequence {} is said to begin at byte {} of the .bin file; byte {}, where the one "
              "before ends, was expected",
              i, pointers_[i], end);
    }
    const uint64_t bytes = static_cast<uint64_t>(lengths_[i]) * token_bytes;
    if (bytes > bin_.size() - end) {
      ThrowAt(
          path, kHeaderBytes + i * 4,
          "sequence {} of {} {} tokens would take bytes {} to {} of the .bin file, which has {}", i,
          lengths_[i], TokenTypeName(token_type_), end, end + bytes, bin_.size());
    }
    end += bytes;
  }
  if (end != bin_.size()) {
    ThrowAt(bin_.path(), end, "the index accounts for {} bytes, the file has {}", end, bin_.size());
  }
  num_tokens_ = static_cast<int64_t>(end / token_bytes);

  int64_t previous = 0;
  for (size_t i = 0; i < documents_.size(); ++i) {
    const bool last = i + 1 == documents_.size();
    if (documents_[i] < previous || documents_[i] > num_sequences() ||
        (i == 0 && documents_[i] != 0) || (last && documents_[i] != num_sequences())) {
      ThrowAt(path, documents_offset + i * 8,
              "document bound {} is sequence {}; bounds rise from 0 to {}, the one before is {}", i,
              documents_[i], num_sequences(), previous);
    }
    previous = documents_[i];
  }
}

int64_t IndexedDataset::FirstToken(int64_t sequence) const {
  if (sequence == num_sequences()) return num_tokens_;
  return pointers_[sequence] / static_cast<int64_t>(TokenTypeBytes(token_type_));
}

int64_t IndexedDataset::document_length(int64_t document) const {
  CHECK_GE(document, 0);
  CHECK_LT(document, num_documents());
  return FirstToken(documents_[document + 1]) - FirstToken(documents_[document]);
}

void IndexedDataset::ReadSequence(int64_t sequence, int64_t offset, std::span<int32_t> tokens,
                                  int64_t vocab_size) const {
  CHECK_GE(sequence, 0);
  CHECK_LT(sequence, num_sequences());
  CHECK_GE(offset, 0);
  CHECK_LE(static_cast<int64_t>(tokens.size()), lengths_[sequence] - offset);
  ReadTokens(FirstToken(sequence) + offset, tokens, vocab_size);
}

void IndexedDataset::ReadDocument(int64_t document, int64_t offset, std::span<int32_t> tokens,
                                  int64_t vocab_size) const {
  CHECK_GE(offset, 0);
  CHECK_LE(static_cast<int64_t>(tokens.size()), document_length(document) - offset);
  ReadTokens(FirstToken(documents_[document]) + offset, tokens, vocab_size);
}

void IndexedDataset::ReadTokens(int64_t first, std::span<int32_t> tokens,
                                int64_t vocab_size) const {
  CHECK_LE(vocab_size, kAnyVocabulary);
  const size_t token_bytes = TokenTypeBytes(token_type_);
  std::vector<char> raw(tokens.size() * token_bytes);
  bin_.ReadAt(static_cast<uint64_t>(first) * token_bytes, raw.data(), raw.size());
  const auto bad = WidenTokens(token_type_, raw, tokens, vocab_size);
  if (bad) ThrowBadToken(first + static_cast<int64_t>(bad->position), bad->value, vocab_size);
}

void IndexedDataset::ThrowBadToken(int64_t position, int64_t value, int64_t vocab_size) const {
  const auto token_bytes = static_cast<int64_t>(TokenTypeBytes(token_type_));
  const auto sequence =
      std::upper_bound(pointers_.begin(), pointers_.end(), position * token_bytes) -
      pointers_.begin() - 1;
  const auto document =
      std::upper_bound(documents_.begin(), documents_.end(), sequence) - documents_.begin() - 1;
  ThrowAt(bin_.path(), static_cast<uint64_t>(position * token_bytes),
          "document {}, offset {}: token {} is outside the vocabulary of {} (ids 0 to {})",
          document, position - FirstToken(documents_[document]), value, vocab_size, vocab_size - 1);
}

IndexedDatasetWriter::IndexedDatasetWriter(std::string prefix, int64_t vocab_size)
    : prefix_(std::move(prefix)),
      vocab_size_(vocab_size),
      token_type_(TokenTypeForVocabulary(vocab_size)),
      bin_(prefix_ + ".bin") {
  CHECK_GT(vocab_size, 0);
  CHECK_LE(vocab_size, IndexedDataset::kAnyVocabulary);
}

void IndexedDatasetWriter::Add(std::span<const int32_t> tokens) {
  if (tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    Throw(ErrorKind::kData, fmt::format("{}.bin: document {}", prefix_, num_documents()),
          "{} tokens; a document holds 2147483647 at most", tokens.size());
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab_size_) {
      Throw(ErrorKind::kData, fmt::format("{}.bin: document {}", prefix_, num_documents()),
            "offset {}: token {} is outside the vocabulary of {}", i, tokens[i], vocab_size_);
    }
  }
  if (token_type_ == TokenType::kUint16) {
    narrow_.assign(tokens.begin(), tokens.end());
    bin_.Append(narrow_.data(), narrow_.size() * sizeof(uint16_t));
  } else {
    bin_.Append(tokens.data(), tokens.size_bytes());
  }
  lengths_.push_back(static_cast<int32_t>(tokens.size()));
  num_tokens_ += static_cast<int64_t>(tokens.size());
}

void IndexedDatasetWriter::Finish() {
  AtomicDataFile idx(prefix_ + ".idx");
  idx.Append(kMagic.data(), kMagic.size());
  AppendValue<uint64_t>(idx, kVersion);
  AppendValue<uint8_t>(idx, static_cast<uint8_t>(token_type_));
  AppendValue<uint64_t>(idx, lengths_.size());
  AppendValue<uint64_t>(idx, lengths_.size() + 1);
  idx.Append(lengths_.data(), lengths_.size() * sizeof(int32_t));
  int64_t pointer = 0;
  for (const int32_t length : lengths_) {
    AppendValue<int64_t>(idx, pointer);
    pointer += length * static_cast<int64_t>(TokenTypeBytes(token_type_));
  }
  for (size_t i = 0; i <= lengths_.size(); ++i) AppendValue<int64_t>(idx, static_cast<int64_t>(i));
  bin_.Sync();
  idx.Sync();
  // Without its index a .bin file is no dataset: a crash between the renames pairs no old with new.
  RemoveFileIfPresent(prefix_ + ".idx");
  bin_.Publish();
  idx.Publish();
}

}  // namespace cairn
