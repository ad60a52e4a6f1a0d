#include "runtime/data/document_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/data/data_file.h"

namespace cairn {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;

}  // namespace

struct DocumentReader::State {
  explicit State(const std::string& path) : file(path) {}

  // The text up to the next `delimiter` or the end of the file; false when nothing is left.
  bool NextPart(char delimiter, std::string& part) {
    part.clear();
    if (offset == file.size() && block.empty()) return false;
    for (;;) {
      const size_t at = block.find(delimiter);
      part.append(block.substr(0, at));
      if (part.size() > kMaxDocumentBytes) {
        Throw(ErrorKind::kData, fmt::format("{}: byte {}", file.path(), offset),
              "a document of more than {} bytes; form feeds would split a text file",
              kMaxDocumentBytes);
      }
      if (at != std::string_view::npos) {
        block.remove_prefix(at + 1);
        return true;
      }
      block = {};
      if (offset == file.size()) return true;
      buffer.resize(std::min<uint64_t>(kBlockBytes, file.size() - offset));
      file.ReadAt(offset, buffer.data(), buffer.size());
      offset += buffer.size();
      block = buffer;
    }
  }

  bool NextJsonLine(std::string& text) {
    while (NextPart('\n', line)) {
      ++line_number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      const std::string where = fmt::format("{}:{}", file.path(), line_number);
      simdjson::dom::element root;
      if (const auto error = parser.parse(line).get(root)) {
        Throw(ErrorKind::kData, where, "not a JSON object a line: {}",
              simdjson::error_message(error));
      }
      std::string_view value;
      if (root["text"].get_string().get(value) != simdjson::SUCCESS) {
        Throw(ErrorKind::kData, where,
              "an object with a string under the key \"text\" was expected");
      }
      if (value.empty()) continue;
      text.assign(value);
      return true;
    }
    return false;
  }

  DataFile file;
  bool json = false;
  uint64_t offset = 0;     // of the file, read so far
  std::string buffer;      // the last block read
  std::string_view block;  // what of it is left
  std::string line;
  int64_t line_number = 0;
  simdjson::dom::parser parser;
};

DocumentReader::DocumentReader(const std::string& path) : state_(std::make_unique<State>(path)) {
  const std::string extension = std::filesystem::path(path).extension().string();
  state_->json = extension == ".jsonl" || extension == ".json";
  if (!state_->json && extension != ".txt") {
    Throw(ErrorKind::kData, path, "not a known kind of text; .txt or .jsonl would fit");
  }
}

DocumentReader::~DocumentReader() = default;

bool DocumentReader::Next(std::string& text) {
  if (state_->json) return state_->NextJsonLine(text);
  while (state_->NextPart('\f', text)) {
    if (text.find_first_not_of(" \t\r\n") != std::string::npos) return true;
  }
  return false;
}

uint64_t DocumentReader::bytes_read() const { return state_->offset - state_->block.size(); }
uint64_t DocumentReader::size() const { return state_->file.size(); }

}  // namespace cairn
