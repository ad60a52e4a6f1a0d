#include "runtime/data/bpe_trainer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/data/bpe_tokenizer.h"
#include "runtime/data/byte_alphabet.h"
#include "runtime/data/data_file.h"
#include "runtime/data/document_reader.h"
#include "runtime/data/pieces.h"

namespace cairn {
namespace {

constexpr int32_t kBytes = 256;
// Words above it are rare garbage (and would make the work quadratic); text is still encoded whole.
constexpr size_t kMaxWordBytes = 256;
constexpr size_t kMaxDistinctWords = 20'000'000;

struct Word {
  std::vector<int32_t> tokens;
  int64_t count;
};

// A pair that was the most frequent when it was queued. Equal counts: the smaller pair first.
struct Candidate {
  int64_t count;
  uint64_t pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  explicit Trainer(std::vector<Word> words) : words_(std::move(words)) {
    for (size_t w = 0; w < words_.size(); ++w) {
      const std::vector<int32_t>& tokens = words_[w].tokens;
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        Note(BpeModel::MergeKey(tokens[i], tokens[i + 1]), w, words_[w].count);
      }
    }
    for (const auto& [pair, uses] : uses_) queue_.push({uses.count, pair});
  }

  // Merges the most frequent pair into `merged` and returns it; no pair occurs twice: nothing.
  std::optional<uint64_t> MergeNext(int32_t merged) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const int64_t count = uses_[top.pair].count;
      if (count != top.count) {
        // The count changed after it was queued; it stands in line again with the true one.
        if (count > 0) queue_.push({count, top.pair});
        continue;
      }
      if (count < 2) return std::nullopt;
      Merge(top.pair, merged);
      return top.pair;
    }
    return std::nullopt;
  }

 private:
  struct Uses {
    int64_t count = 0;
    std::unordered_set<size_t> words;  // that hold the pair, or once did
  };

  void Note(uint64_t pair, size_t word, int64_t count) {
    Uses& uses = uses_[pair];
    uses.count += count;
    if (count > 0) uses.words.insert(word);
  }

  void Merge(uint64_t pair, int32_t merged) {
    const auto left = static_cast<int32_t>(pair >> 32);
    const auto right = static_cast<int32_t>(pair);
    const std::unordered_set<size_t> affected = std::move(uses_[pair].words);
    uses_.erase(pair);
    std::unordered_set<uint64_t> grown;
    for (const size_t w : affected) {
      std::vector<int32_t>& tokens = words_[w].tokens;
      const int64_t count = words_[w].count;
      std::vector<int32_t> result;
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (i + 1 == tokens.size() || tokens[i] != left || tokens[i + 1] != right) {
          result.push_back(tokens[i]);
          continue;
        }
        if (!result.empty()) {
          Note(BpeModel::MergeKey(result.back(), left), w, -count);
          grown.insert(BpeModel::MergeKey(result.back(), merged));
          Note(BpeModel::MergeKey(result.back(), merged), w, count);
        }
        if (i + 2 < tokens.size()) {
          Note(BpeModel::MergeKey(right, tokens[i + 2]), w, -count);
          grown.insert(BpeModel::MergeKey(merged, tokens[i + 2]));
          Note(BpeModel::MergeKey(merged, tokens[i + 2]), w, count);
        }
        result.push_back(merged);
        ++i;
      }
      tokens = std::move(result);
    }
    // Overlapping occurrences ("aaa") may have noted the merged pair itself.
    uses_.erase(pair);
    for (const uint64_t key : grown) {
      const auto found = uses_.find(key);
      if (found != uses_.end() && found->second.count > 0) queue_.push({found->second.count, key});
    }
  }

  std::vector<Word> words_;
  std::unordered_map<uint64_t, Uses> uses_;
  std::priority_queue<Candidate> queue_;
};

std::vector<Word> CountWords(const std::vector<std::string>& inputs) {
  const Pretokenizer pretokenizer(kGpt2Pattern, "GPT-2's pattern");
  std::unordered_map<std::string, int64_t> counts;
  std::string document;
  for (const std::string& input : inputs) {
    DocumentReader reader(input);
    while (reader.Next(document)) {
      pretokenizer.Split(document, [&](std::string_view word) {
        if (word.size() > kMaxWordBytes) return;
        ++counts[std::string(word)];
        if (counts.size() > kMaxDistinctWords) {
          Throw(ErrorKind::kData, input,
                "more than {} different words; train on a part of the text", kMaxDistinctWords);
        }
      });
    }
  }
  std::vector<Word> words;
  for (const auto& [text, count] : counts) {
    Word word{{}, count};
    for (const char byte : text) word.tokens.push_back(static_cast<unsigned char>(byte));
    words.push_back(std::move(word));
  }
  return words;
}

}  // namespace

void TrainBpe(const std::vector<std::string>& inputs, int64_t vocab_size,
              const std::string& output_json) {
  constexpr int64_t kSmallest = kBytes + 1;  // and the end of text
  if (vocab_size < kSmallest || vocab_size >= kMaxVocabularySize) {
    Throw(ErrorKind::kConfig, "vocab_size", "{} is outside {} to {}", vocab_size, kSmallest,
          kMaxVocabularySize - 1);
  }
  std::vector<Word> words = CountWords(inputs);
  if (words.empty()) {
    Throw(ErrorKind::kData, inputs.empty() ? "inputs" : inputs[0], "no text to train on");
  }
  Trainer trainer(std::move(words));

  const ByteAlphabet alphabet;
  std::vector<std::string> pieces;  // as text
  pieces.reserve(vocab_size);
  nlohmann::json merges = nlohmann::json::array();
  for (int byte = 0; byte < kBytes; ++byte) {
    pieces.push_back(alphabet.ToText(std::string(1, static_cast<char>(byte))));
  }
  while (static_cast<int64_t>(pieces.size()) < vocab_size - 1) {
    const auto pair = trainer.MergeNext(static_cast<int32_t>(pieces.size()));
    if (!pair) {
      Throw(ErrorKind::kConfig, "vocab_size",
            "{} does not fit the text: no pair occurs twice after {} tokens", vocab_size,
            pieces.size() + 1);
    }
    const std::string left = pieces[*pair >> 32];
    const std::string right = pieces[static_cast<uint32_t>(*pair)];
    // Readers before 2024 know no other form.
    merges.push_back(fmt::format("{} {}", left, right));
    pieces.push_back(left + right);
  }

  nlohmann::json vocab = nlohmann::json::object();
  for (size_t id = 0; id < pieces.size(); ++id) vocab[pieces[id]] = id;
  vocab[std::string(kEndOfText)] = pieces.size();
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  const nlohmann::json tokenizer = {{"version", "1.0"},
                                    {"truncation", nullptr},
                                    {"padding", nullptr},
                                    {"added_tokens",
                                     {{{"id", pieces.size()},
                                       {"content", kEndOfText},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", false},
                                       {"special", true}}}},
                                    {"normalizer", nullptr},
                                    {"pre_tokenizer", byte_level},
                                    {"post_processor", nullptr},
                                    {"decoder", byte_level},
                                    {"model",
                                     {{"type", "BPE"},
                                      {"dropout", nullptr},
                                      {"unk_token", nullptr},
                                      {"continuing_subword_prefix", nullptr},
                                      {"end_of_word_suffix", nullptr},
                                      {"fuse_unk", false},
                                      {"byte_fallback", false},
                                      {"vocab", vocab},
                                      {"merges", merges}}}};
  const std::string text = tokenizer.dump(1);
  AtomicDataFile file(output_json);
  file.Append(text.data(), text.size());
  file.Sync();
  file.Publish();
}

}  // namespace cairn
