#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace cairn {

/// Reads the documents of a text file, one by one:
///   - `*.txt`: documents are separated by form feeds (U+000C); without one the file is one
///   document;
///   - `*.jsonl`, `*.json`: one JSON object a line, its text under the key `text`.
/// Documents without text are passed over.
class DocumentReader {
 public:
  static constexpr uint64_t kMaxDocumentBytes = uint64_t{1} << 30;

  /// Throws kData when the file is missing or is of another kind.
  explicit DocumentReader(const std::string& path);
  ~DocumentReader();

  /// The next document into `text`; false at the end. Throws kData with file:line for a line that
  /// is no JSON object with a text, and for a document of more than kMaxDocumentBytes.
  bool Next(std::string& text);

  uint64_t bytes_read() const;  ///< of the file, so far
  uint64_t size() const;        ///< of the file, in bytes

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn
