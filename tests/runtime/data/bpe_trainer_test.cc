#include "runtime/data/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/data/tokenizer.h"
#include "tests/runtime/data/data_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using Pair = std::pair<int32_t, int32_t>;

std::string Corpus() {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "The walkers put a stone on the cairn, and the cairn grew by a stone.\n";
    text += "    for stone in stones:\n        carry(stone)  # na\xC3\xAFve\n\n";
    text += std::to_string(i) + " stones were carried to the ridge over the water.\n";
  }
  return text;
}

// Merges pair after pair by counting anew each time: the most frequent, of equals the smallest.
std::vector<Pair> SlowMerges(const std::vector<std::string>& words, size_t merges) {
  std::vector<std::vector<int32_t>> texts;
  texts.reserve(words.size());
  for (const auto& word : words) texts.emplace_back(word.begin(), word.end());
  std::vector<Pair> found;
  while (found.size() < merges) {
    std::map<Pair, int64_t> counts;
    for (const auto& text : texts) {
      for (size_t i = 0; i + 1 < text.size(); ++i) ++counts[{text[i], text[i + 1]}];
    }
    const auto best = std::max_element(
        counts.begin(), counts.end(),
        [](const auto& a, const auto& b) { return a.second < b.second; });  // the first of equals
    if (best == counts.end() || best->second < 2) break;
    for (auto& text : texts) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < text.size(); ++i) {
        if (i + 1 < text.size() && Pair{text[i], text[i + 1]} == best->first) {
          merged.push_back(256 + static_cast<int32_t>(found.size()));
          ++i;
        } else {
          merged.push_back(text[i]);
        }
      }
      text = merged;
    }
    found.push_back(best->first);
  }
  return found;
}

class BpeTrainerTest : public ::testing::Test {
 protected:
  std::string Train(const std::string& text, const std::string& name, int64_t vocab_size) const {
    TrainBpe({folder_.Write("corpus.txt", text)}, vocab_size, folder_.Path(name));
    return folder_.Path(name);
  }

  TestFolder folder_;
};

TEST_F(BpeTrainerTest, TrainedTokenizerCompressesAndKeepsEveryByte) {
  const auto tokenizer = LoadTokenizer(Train(Corpus(), "a.json", 320));
  EXPECT_EQ(tokenizer->vocab_size(), 320);
  EXPECT_EQ(tokenizer->end_of_text(), 319);
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{319}), "<|endoftext|>");
  const std::string text = Corpus();
  const auto ids = tokenizer->Encode(text);
  EXPECT_EQ(tokenizer->Decode(ids), text);
  EXPECT_LT(ids.size() * 3, text.size());
  std::string bytes;
  for (int i = 0; i < 512; ++i) bytes += static_cast<char>(i * 37);
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(bytes)), bytes);
}

TEST_F(BpeTrainerTest, TrainingIsDeterministic) {
  EXPECT_EQ(ReadFile(Train(Corpus(), "a.json", 310)), ReadFile(Train(Corpus(), "b.json", 310)));
}

TEST_F(BpeTrainerTest, MergesWhatCountingAnewWouldMerge) {
  std::mt19937 generator(11);
  for (int round = 0; round < 40; ++round) {
    const uint32_t letters = 1 + generator() % 3;
    std::vector<std::string> words;
    std::string text;
    for (int i = 0; i < 30; ++i) {
      std::string word;
      for (uint32_t n = 1 + generator() % 24; n > 0; --n) {
        word += static_cast<char>('a' + generator() % letters);
      }
      // GPT-2's words take the space before them along.
      text += (i == 0 ? "" : " ") + word;
      words.push_back((i == 0 ? "" : " ") + word);
    }
    const std::vector<Pair> expected = SlowMerges(words, 10'000);
    std::vector<std::string> pieces;
    pieces.reserve(256 + expected.size());
    for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
    nlohmann::json merges = nlohmann::json::array();
    for (const auto& [left, right] : expected) {
      const auto shown = [](std::string piece) {
        for (size_t at = piece.find(' '); at != std::string::npos; at = piece.find(' ')) {
          piece.replace(at, 1, "\xC4\xA0");
        }
        return piece;
      };
      merges.push_back(shown(pieces[left]) + " " + shown(pieces[right]));
      pieces.push_back(pieces[left] + pieces[right]);
    }
    const auto size = static_cast<int64_t>(257 + expected.size());
    const std::string path = Train(text, "a.json", size);
    const auto model = nlohmann::json::parse(ReadFile(path))["model"];
    EXPECT_EQ(model["merges"], merges) << text;
    EXPECT_EQ(model["vocab"].size(), size) << "no token is made twice: " << text;
    EXPECT_EQ(LoadTokenizer(path)->vocab_size(), size);
  }
}

TEST_F(BpeTrainerTest, RefusesWhatDoesNotFit) {
  for (const int64_t size : {-1, 0, 256, 100'000}) {
    EXPECT_THAT(ErrorText(ErrorKind::kConfig, [&] { Train(Corpus(), "c.json", size); }),
                HasSubstr("vocab_size"));
  }
  const auto fails = [&](const std::string& input) {
    return ErrorText(ErrorKind::kData, [&] { TrainBpe({input}, 300, folder_.Path("c.json")); });
  };
  EXPECT_THAT(fails(folder_.Path("none.txt")), HasSubstr("none.txt: no such file"));
  EXPECT_THAT(fails(folder_.Write("empty.txt", "\n\n")), HasSubstr("no text to train on"));
  EXPECT_THAT(fails(folder_.Write("bad.jsonl", "{\"text\":\"one two\"}\n{\"text\":3}\n")),
              HasSubstr("bad.jsonl:2"));
  EXPECT_THAT(folder_.Names(), testing::Not(testing::Contains("c.json")));
}

}  // namespace
}  // namespace cairn
