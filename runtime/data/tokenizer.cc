#include "runtime/data/tokenizer.h"

#include <filesystem>

#include "runtime/base/error.h"
#include "runtime/data/bpe_tokenizer.h"
#include "runtime/data/pieces.h"

namespace cairn {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int byte = 0; byte < 256; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
    pieces_.emplace_back(kEndOfText);
  }

  std::vector<int32_t> Encode(std::string_view text) const override {
    std::vector<int32_t> ids(text.size());
    for (size_t i = 0; i < text.size(); ++i) ids[i] = static_cast<unsigned char>(text[i]);
    return ids;
  }
  std::string Decode(std::span<const int32_t> ids) const override {
    return JoinPieces(pieces_, ids);
  }
  int64_t vocab_size() const override { return static_cast<int64_t>(pieces_.size()); }
  int32_t end_of_text() const override { return 256; }

 private:
  std::vector<std::string> pieces_;
};

}  // namespace

std::string JoinPieces(std::span<const std::string> pieces, std::span<const int32_t> ids) {
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= pieces.size()) {
      Throw(ErrorKind::kData, fmt::format("token {}", i), "id {} is outside the vocabulary of {}",
            ids[i], pieces.size());
    }
    text += pieces[ids[i]];
  }
  return text;
}

std::unique_ptr<Tokenizer> LoadTokenizer(const std::string& path_or_name) {
  namespace fs = std::filesystem;
  if (path_or_name == "byte") return std::make_unique<ByteTokenizer>();
  const fs::path path(path_or_name);
  std::error_code ignored;  // whatever is wrong with the path, opening it will say
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / "tokenizer.json", ignored)) {
      return LoadHuggingFaceBpe((path / "tokenizer.json").string());
    }
    if (fs::exists(path / "vocab.json", ignored)) {
      return LoadGpt2Bpe((path / "vocab.json").string(), (path / "merges.txt").string());
    }
    Throw(ErrorKind::kData, path_or_name,
          "the folder has no tokenizer.json, and no vocab.json with merges.txt");
  }
  if (path.extension() == ".json") return LoadHuggingFaceBpe(path_or_name);
  Throw(ErrorKind::kData, path_or_name,
        "not a tokenizer: \"byte\", a Hugging Face tokenizer.json of a byte-level BPE, or a folder "
        "with that or with vocab.json and merges.txt would fit");
}

}  // namespace cairn
