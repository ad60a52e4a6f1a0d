#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// Text to token ids and back. All methods are thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text`, nothing added. The text may be any bytes; those that are not UTF-8 are kept
  /// where the vocabulary has tokens for bytes.
  virtual std::vector<int32_t> Encode(std::string_view text) const = 0;
  /// The text of `ids`; inverts Encode byte for byte where the vocabulary has tokens for bytes.
  /// Throws kData for an id that the vocabulary lacks.
  virtual std::string Decode(std::span<const int32_t> ids) const = 0;
  /// Ids are 0 to vocab_size() - 1.
  virtual int64_t vocab_size() const = 0;
  /// The token that ends a document, or -1.
  virtual int32_t end_of_text() const = 0;
};

/// Loads a tokenizer:
///   - `byte`: the 256 bytes, then <|endoftext|>;
///   - byte-level BPE: a Hugging Face `tokenizer.json`, or a folder with that or with GPT-2's
///     `vocab.json` and `merges.txt`.
/// Throws kData with the file and the place in it where it is missing, damaged, or of a kind that
/// Cairn does not read.
std::unique_ptr<Tokenizer> LoadTokenizer(const std::string& path_or_name);

}  // namespace cairn
