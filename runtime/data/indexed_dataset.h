#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/data_file.h"

namespace cairn {

/// How a token is stored in PREFIX.bin; the values are those of the index header.
enum class TokenType : uint8_t {
  kUint8 = 1,
  kInt8 = 2,
  kInt16 = 3,
  kInt32 = 4,
  kInt64 = 5,
  kUint16 = 8,
};

/// Bytes of one token.
size_t TokenTypeBytes(TokenType type);
/// "uint8", "int32", ...
const char* TokenTypeName(TokenType type);
/// uint16 where every id of the vocabulary fits (the border that Megatron-LM draws, 65500), else
/// int32.
TokenType TokenTypeForVocabulary(int64_t vocab_size);

/// A tokenised corpus in Megatron-LM's format: PREFIX.bin holds the tokens of all sequences, one
/// after the other; PREFIX.idx holds the length and the place of each, and which of them make up a
/// document.
///
///     offset  0  "MMIDIDX\0\0"         all numbers little-endian and unaligned
///             9  u64 version = 1
///            17  u8 token type
///            18  u64 sequences S
///            26  u64 documents + 1, D
///            34  i32 length[S], i64 byte pointer into .bin[S], i64 first sequence of document[D]
///
/// The index is read and checked whole; tokens are read as asked for. All methods are thread-safe.
class IndexedDataset {
 public:
  static constexpr int64_t kAnyVocabulary = int64_t{1} << 31;

  /// Opens `prefix`.bin and `prefix`.idx. Throws kData with the file and the byte offset where they
  /// are missing, truncated, overlong or inconsistent.
  explicit IndexedDataset(std::string prefix);

  const std::string& prefix() const { return prefix_; }
  TokenType token_type() const { return token_type_; }
  int64_t num_sequences() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(documents_.size()) - 1; }
  int64_t num_tokens() const { return num_tokens_; }
  /// Tokens of each sequence.
  std::span<const int32_t> sequence_lengths() const { return lengths_; }
  /// Tokens of a document: of all its sequences.
  int64_t document_length(int64_t document) const;

  /// Fills `tokens` with those of `sequence` from token `offset` on. Throws kData that names the
  /// file, the document and the token when one lies outside [0, vocab_size).
  void ReadSequence(int64_t sequence, int64_t offset, std::span<int32_t> tokens,
                    int64_t vocab_size = kAnyVocabulary) const;
  /// The same, counted from the first token of `document`.
  void ReadDocument(int64_t document, int64_t offset, std::span<int32_t> tokens,
                    int64_t vocab_size = kAnyVocabulary) const;

 private:
  void ReadIndex();
  int64_t FirstToken(int64_t sequence) const;
  void ReadTokens(int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const;
  [[noreturn]] void ThrowBadToken(int64_t position, int64_t value, int64_t vocab_size) const;

  std::string prefix_;
  DataFile bin_;
  TokenType token_type_ = TokenType::kInt32;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> lengths_;
  std::vector<int64_t> pointers_;   // bytes
  std::vector<int64_t> documents_;  // first sequence of each, then the number of sequences
};

/// Writes an indexed dataset. Readers see the old one or the new one, never a half: both files are
/// written under temporary names, and `Finish()` puts the index in place last. Not thread-safe.
class IndexedDatasetWriter {
 public:
  IndexedDatasetWriter(std::string prefix, int64_t vocab_size);

  /// Appends a document of one sequence. Throws kData when a token lies outside the vocabulary.
  void Add(std::span<const int32_t> tokens);
  /// Makes the dataset visible; nothing may be added after. Without it nothing is left on disk.
  void Finish();

  int64_t num_documents() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  std::string prefix_;
  int64_t vocab_size_;
  TokenType token_type_;
  AtomicDataFile bin_;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> lengths_;
  std::vector<uint16_t> narrow_;  // scratch of Add
};

}  // namespace cairn
