#include "runtime/data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "runtime/data/pretokenizer.h"
#include "runtime/data/utf8.h"
#include "tests/runtime/data/data_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// Bytes of all kinds: plain text, characters of every length, and bytes that are no UTF-8 at all.
std::vector<std::string> RandomTexts(int count) {
  const std::vector<std::string> parts = {"stone",
                                          " ",
                                          "  ",
                                          "\n",
                                          "\r\n",
                                          "\t",
                                          "the ",
                                          "12",
                                          "'s",
                                          "!",
                                          std::string(1, '\0'),
                                          "\x80",
                                          "\xFF",
                                          "\xC3",
                                          "\xE2\x96",
                                          "\xC3\xA9",
                                          "\xE2\x96\x81",
                                          "\xE2\x80\x83",
                                          "\xF0\x9F\x99\x82",
                                          "\xED\xA0\x80",
                                          "\xC2\x85",
                                          "<|endoftext|>",
                                          "\xEF\xBB\xBF",
                                          "\xEF\xBF\xBD"};
  std::mt19937 generator(7);
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (uint32_t n = generator() % 12; n > 0; --n) {
      text += generator() % 4 == 0 ? std::string(1, static_cast<char>(generator()))
                                   : parts[generator() % parts.size()];
    }
    texts.push_back(text);
  }
  return texts;
}

void ExpectLossless(const Tokenizer& tokenizer) {
  for (const std::string& text : RandomTexts(2000)) {
    const auto ids = tokenizer.Encode(text);
    for (const int32_t id : ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer.vocab_size());
    }
    ASSERT_EQ(tokenizer.Decode(ids), text) << testing::PrintToString(text);
  }
}

Json BpeReference() {
  return Json::parse(ReadFile(CAIRN_SOURCE_DIR "/tests/runtime/data/bpe_reference.json"));
}

TEST(ByteTokenizerTest, IsTheBytesAndAnEnd) {
  const auto tokenizer = LoadTokenizer("byte");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_THAT(tokenizer->Encode("a\xFF\n"), ElementsAre(97, 255, 10));
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{97, 256}), "a<|endoftext|>");
  ExpectLossless(*tokenizer);
  for (const int32_t id : {-1, 257}) {
    EXPECT_THAT(ErrorText(ErrorKind::kData,
                          [&] {
                            tokenizer->Decode(std::vector<int32_t>{1, id});
                          }),
                HasSubstr("token 1: id"));
  }
}

TEST(BpeTokenizerTest, GivesTheIdsOfHuggingFace) {
  const TestFolder folder;
  const Json reference = BpeReference();
  ASSERT_EQ(reference["tokenizers"].size(), 4U);
  for (const auto& item : reference["tokenizers"]) {
    const auto tokenizer = LoadTokenizer(folder.Write("tokenizer.json", item["json"].dump()));
    for (size_t i = 0; i < reference["strings"].size(); ++i) {
      const auto text = reference["strings"][i].get<std::string>();
      const auto ids = tokenizer->Encode(text);
      EXPECT_EQ(ids, item["ids"][i].get<std::vector<int32_t>>())
          << item["name"] << ": " << reference["strings"][i].dump(-1, ' ', true);
      EXPECT_EQ(tokenizer->Decode(ids), text);
    }
    EXPECT_EQ(tokenizer->end_of_text(), 0);
    ExpectLossless(*tokenizer);
  }
}

TEST(BpeTokenizerTest, ReadsVocabAndMergesOfAFolder) {
  const TestFolder folder;
  const Json reference = BpeReference();
  folder.Write("vocab.json", reference["vocab"].dump());
  folder.Write("merges.txt", reference["merges"].get<std::string>());
  const auto tokenizer = LoadTokenizer(folder.Path(""));
  for (size_t i = 0; i < reference["strings"].size(); ++i) {
    EXPECT_EQ(tokenizer->Encode(reference["strings"][i].get<std::string>()),
              reference["tokenizers"][0]["ids"][i].get<std::vector<int32_t>>());
  }
}

TEST(BpeTokenizerTest, LongWordsAndManyThreads) {
  const TestFolder folder;
  const auto tokenizer =
      LoadTokenizer(folder.Write("tokenizer.json", BpeReference()["tokenizers"][0]["json"].dump()));
  const std::string word(200'000, 'a');
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(word)), word);
  const std::string spaces = std::string(100'000, ' ') + "x";
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(spaces)), spaces);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { ExpectLossless(*tokenizer); });
  for (auto& thread : threads) thread.join();
}

TEST(BpeTokenizerTest, RefusesBadTokenizerJson) {
  const TestFolder folder;
  const Json good = BpeReference()["tokenizers"][1]["json"];
  const auto fails = [&](const char* pointer, const Json& value) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    const std::string path = folder.Write("tokenizer.json", bad.dump());
    return ErrorText(ErrorKind::kData, [&] { LoadTokenizer(path); });
  };
  EXPECT_THAT(fails("/model", 3), HasSubstr("model.type"));
  EXPECT_THAT(fails("/model/type", "Unigram"), HasSubstr("only BPE is read"));
  EXPECT_THAT(fails("/model/end_of_word_suffix", "</w>"), HasSubstr("model.end_of_word_suffix"));
  EXPECT_THAT(fails("/model/dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(fails("/model/vocab", Json::array()), HasSubstr("model.vocab: an object"));
  EXPECT_THAT(fails("/model/vocab/stone", -4), HasSubstr("id \"-4\""));
  EXPECT_THAT(fails("/model/vocab/stone", "x"), HasSubstr("an integer"));
  EXPECT_THAT(fails("/model/vocab/stone", 1e30), HasSubstr("an integer"));
  EXPECT_THAT(fails("/model/vocab/stone", 1'000'000'000'000), HasSubstr("an integer"));
  EXPECT_THAT(fails("/model/vocab/stone", 4'000'000), HasSubstr("have ids up to 4000000"));
  EXPECT_THAT(fails("/model/vocab/stone", 5), HasSubstr("share id 5"));
  EXPECT_THAT(fails("/model/vocab/st one", 700), HasSubstr("not in the alphabet"));
  EXPECT_THAT(fails("/model/merges", 3), HasSubstr("model.merges: an array"));
  EXPECT_THAT(fails("/model/merges/0", "a b c"), HasSubstr("model.merges[0]"));
  EXPECT_THAT(fails("/model/merges/0", "ab"), HasSubstr("model.merges[0]"));
  EXPECT_THAT(fails("/model/merges/0", Json::array({"a", 3})), HasSubstr("model.merges[0]"));
  EXPECT_THAT(fails("/model/merges/3", Json::array({"q", "q"})),
              HasSubstr("model.merges[3]: the merge needs token \"qq\""));
  EXPECT_THAT(fails("/normalizer", Json{{"type", "NFC"}}), HasSubstr("normalizer"));
  EXPECT_THAT(fails("/added_tokens", 3), HasSubstr("added_tokens: an array"));
  EXPECT_THAT(fails("/added_tokens/0/content", 3), HasSubstr("added_tokens[0]"));
  EXPECT_THAT(fails("/added_tokens/0/content", ""), HasSubstr("added_tokens[0]"));
  EXPECT_THAT(fails("/added_tokens/1/id", 3), HasSubstr("share id 3"));
  EXPECT_THAT(fails("/added_tokens/0/id", 3), HasSubstr("in the vocabulary it has 0"));
  EXPECT_THAT(fails("/added_tokens/1/rstrip", true), HasSubstr("rstrip"));
  EXPECT_THAT(fails("/pre_tokenizer", nullptr), HasSubstr("ByteLevel"));
  EXPECT_THAT(fails("/pre_tokenizer/pretokenizers", Json::array()), HasSubstr("ByteLevel"));
  EXPECT_THAT(fails("/pre_tokenizer/pretokenizers/0/type", "Metaspace"), HasSubstr("Metaspace"));
  EXPECT_THAT(fails("/pre_tokenizer/pretokenizers/0/behavior", "Removed"), HasSubstr("Isolated"));
  EXPECT_THAT(fails("/pre_tokenizer/pretokenizers/0/pattern/Regex", "(a"),
              HasSubstr("does not compile"));
  EXPECT_THAT(fails("/pre_tokenizer/pretokenizers/0/pattern/Regex", "[a[b]]"), HasSubstr("nests"));
  EXPECT_THAT(fails("/pre_tokenizer/pretokenizers/1/add_prefix_space", true),
              HasSubstr("add_prefix_space"));

  Json no_byte = good;
  no_byte["model"]["vocab"].erase("!");
  const std::string path = folder.Write("tokenizer.json", no_byte.dump());
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer(path); }),
              HasSubstr("no token for byte 0x21"));
}

TEST(BpeTokenizerTest, DamagedFilesAreErrors) {
  const TestFolder folder;
  const Json reference = BpeReference();
  const std::string json = reference["tokenizers"][2]["json"].dump();
  for (size_t length = 0; length < json.size(); length += 97) {
    const std::string path = folder.Write("tokenizer.json", json.substr(0, length));
    EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer(path); }),
                HasSubstr("not valid JSON"));
  }
  std::mt19937 generator(3);
  for (int i = 0; i < 200; ++i) {
    std::string damaged = json;
    damaged[generator() % damaged.size()] = static_cast<char>(generator());
    const std::string path = folder.Write("tokenizer.json", damaged);
    try {
      ExpectLossless(*LoadTokenizer(path));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
    }
    if (HasFatalFailure()) break;
  }
  const TestFolder pair;
  pair.Write("vocab.json", reference["vocab"].dump());
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer(pair.Path("")); }),
              HasSubstr("merges.txt: no such file"));
  const auto merges = reference["merges"].get<std::string>();
  pair.Write("merges.txt", merges.substr(0, merges.find('\n', 20)) + "\nq\n");
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer(pair.Path("")); }),
              HasSubstr("merges.txt:4: \"q\" is not two tokens"));
}

TEST(LoadTokenizerTest, SaysWhatWouldFit) {
  const TestFolder folder;
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer("bytes"); }),
              HasSubstr("\"byte\", a Hugging Face tokenizer.json"));
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer(folder.Path("")); }),
              HasSubstr("the folder has no tokenizer.json"));
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { LoadTokenizer(folder.Path("none.json")); }),
              HasSubstr("no such file"));
}

TEST(PretokenizerTest, KeepsWhatThePatternPassesOver) {
  const Pretokenizer pretokenizer("b*", "here");
  std::vector<std::string> words;
  pretokenizer.Split(
      "abb\xFF\xFE"
      "cd\xC3\xA9"
      "b",
      [&](std::string_view word) { words.emplace_back(word); });
  EXPECT_THAT(words, ElementsAre("a", "bb", "\xFF\xFE", "cd\xC3\xA9", "b"));
}

TEST(PretokenizerTest, RunawayPatternIsAnErrorNotAHang) {
  const Pretokenizer pretokenizer("(?:a+)+$", "here");
  EXPECT_THAT(
      ErrorText(ErrorKind::kData,
                [&] { pretokenizer.Split(std::string(64, 'a') + "b", [](std::string_view) {}); }),
      HasSubstr("here: the pattern fails at byte 0"));
}

TEST(Utf8Test, TakesWellFormedCharactersOnly) {
  EXPECT_EQ(Utf8CharacterLength("a"), 1U);
  EXPECT_EQ(Utf8CharacterLength("\xC2\x80"), 2U);
  EXPECT_EQ(Utf8CharacterLength("\xE0\xA0\x80"), 3U);
  EXPECT_EQ(Utf8CharacterLength("\xED\x9F\xBF"), 3U);
  EXPECT_EQ(Utf8CharacterLength("\xF0\x90\x80\x80"), 4U);
  EXPECT_EQ(Utf8CharacterLength("\xF4\x8F\xBF\xBF"), 4U);
  for (const char* bad :
       {"", "\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2x", "\xE0\x80\x80", "\xE0\xA0",
        "\xED\xA0\x80", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    EXPECT_EQ(Utf8CharacterLength(bad), 0U) << testing::PrintToString(bad);
  }
}

}  // namespace
}  // namespace cairn
