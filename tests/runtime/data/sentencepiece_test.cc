#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "runtime/data/document_reader.h"
#include "runtime/data/sentencepiece_tokenizer.h"
#include "tests/runtime/data/data_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Corpus() {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "The walkers put a stone on the cairn, and the cairn grew by a stone.\n";
    text += "    for stone in stones:\n        carry(stone)  # na\xC3\xAFve\n\n";
    text += std::to_string(i) + " stones were carried to the ridge over the water.\n";
  }
  return text;
}

class SentencePieceTest : public ::testing::Test {
 protected:
  std::string Train(const std::string& name, int64_t vocab_size) const {
    TrainSentencePiece({folder_.Write("corpus.txt", Corpus())}, vocab_size, folder_.Path(name));
    return folder_.Path(name);
  }

  TestFolder folder_;
};

TEST_F(SentencePieceTest, TrainedModelKeepsEveryByte) {
  const auto tokenizer = LoadTokenizer(Train("a.model", 400));
  EXPECT_EQ(tokenizer->vocab_size(), 400);
  EXPECT_EQ(tokenizer->end_of_text(), 1);
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{1}), "<|endoftext|>");
  const std::string text = Corpus();
  const auto ids = tokenizer->Encode(text);
  EXPECT_EQ(tokenizer->Decode(ids), text);
  EXPECT_LT(ids.size() * 2, text.size()) << "a vocabulary trained on the text must compress it";

  std::mt19937 generator(1);
  const std::vector<std::string> parts = {"stone",
                                          " ",
                                          "   ",
                                          "\n",
                                          "\r",
                                          "\t",
                                          "cairn",
                                          "<|endoftext|>",
                                          "<0x41>",
                                          "<unk>",
                                          "\xE2\x96\x81",
                                          "\xE2\x96\x85",
                                          "\xE2\x81\x87",
                                          "\xF0\x9F\x99\x82",
                                          "\xC3\xA9",
                                          "\xEF\xAC\x81",
                                          "\xFF",
                                          "\xE2",
                                          "\xC2\xA0",
                                          "\xEF\xBF\xBD",
                                          std::string(1, '\0')};
  for (int i = 0; i < 2000; ++i) {
    std::string random;
    for (uint32_t n = generator() % 12; n > 0; --n) {
      random += generator() % 4 == 0 ? std::string(1, static_cast<char>(generator()))
                                     : parts[generator() % parts.size()];
    }
    const auto encoded = tokenizer->Encode(random);
    ASSERT_EQ(tokenizer->Decode(encoded), random) << testing::PrintToString(random);
    ASSERT_THAT(encoded, testing::Each(testing::Ne(1)))
        << "text must not forge the end of a document";
  }
}

TEST_F(SentencePieceTest, TrainingIsDeterministic) {
  EXPECT_EQ(ReadFile(Train("a.model", 350)), ReadFile(Train("b.model", 350)));
}

TEST_F(SentencePieceTest, TrainingRefusesWhatDoesNotFit) {
  for (const int64_t size : {-1, 0, 258, 270, 100'000}) {
    EXPECT_THAT(ErrorText(ErrorKind::kConfig, [&] { Train("c.model", size); }),
                HasSubstr("vocab_size"));
  }
  EXPECT_THAT(
      ErrorText(
          ErrorKind::kData,
          [&] { TrainSentencePiece({folder_.Path("none.txt")}, 300, folder_.Path("c.model")); }),
      HasSubstr("none.txt: no such file"));
  EXPECT_THAT(ErrorText(ErrorKind::kData,
                        [&] {
                          TrainSentencePiece({folder_.Write("empty.txt", "\n\n")}, 300,
                                             folder_.Path("c.model"));
                        }),
              HasSubstr("no text to train on"));
  const std::string bad = folder_.Write("bad.jsonl", "{\"text\":\"one two\"}\n{\"text\":3}\n");
  EXPECT_THAT(
      ErrorText(ErrorKind::kData, [&] { TrainSentencePiece({bad}, 300, folder_.Path("c.model")); }),
      HasSubstr("bad.jsonl:2"));
  EXPECT_THAT(folder_.Names(), testing::Not(testing::Contains("c.model")));
}

TEST_F(SentencePieceTest, DamagedModelsAreErrorsOrWork) {
  const std::string model = ReadFile(Train("a.model", 300));
  for (size_t length = 0; length < model.size(); length += 61) {
    const std::string path = folder_.Write("bad.model", model.substr(0, length));
    try {
      LoadTokenizer(path)->Encode("a stone\n");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
    }
  }
  EXPECT_THAT(ErrorText(ErrorKind::kData,
                        [&] { LoadTokenizer(folder_.Write("bad.model", "not a model")); }),
              HasSubstr("not a SentencePiece model"));
}

class DocumentReaderTest : public ::testing::Test {
 protected:
  static std::vector<std::string> ReadAll(const std::string& path) {
    DocumentReader reader(path);
    std::vector<std::string> documents;
    for (std::string text; reader.Next(text);) documents.push_back(text);
    EXPECT_EQ(reader.bytes_read(), reader.size());
    return documents;
  }

  TestFolder folder_;
};

TEST_F(DocumentReaderTest, SplitsTextAtFormFeeds) {
  EXPECT_THAT(ReadAll(folder_.Write("a.txt", "one\n\ntwo\n\fthree\f\n \f\ffour")),
              ElementsAre("one\n\ntwo\n", "three", "four"));
  EXPECT_THAT(ReadAll(folder_.Write("b.txt", "")), ElementsAre());
  const std::string large(3'000'000, 'x');  // more than a block
  EXPECT_THAT(ReadAll(folder_.Write("c.txt", large + "\f" + large)), ElementsAre(large, large));
}

TEST_F(DocumentReaderTest, ReadsJsonLines) {
  EXPECT_THAT(
      ReadAll(folder_.Write("a.jsonl",
                            "{\"text\":\"one\\n\\u00e9\",\"id\":[1,{}]}\r\n\n  \n{\"text\":\"\"}\n"
                            "{\"id\":2,\"text\":\"two\"}")),
      ElementsAre("one\n\xC3\xA9", "two"));
}

TEST_F(DocumentReaderTest, NamesTheBadLine) {
  for (const char* line :
       {"{", "[]", "3", "{\"txt\":\"x\"}", "{\"text\":null}", "{\"text\":\"\xFF\"}",
        "{\"text\":\"a\"} x", "{\"text\":\"a\"", "\"text\""}) {
    const std::string path =
        folder_.Write("a.jsonl", std::string("{\"text\":\"fine\"}\n\n") + line + "\n");
    EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { ReadAll(path); }), HasSubstr("a.jsonl:3: "))
        << line;
  }
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { ReadAll(folder_.Write("a.csv", "x")); }),
              HasSubstr(".txt or .jsonl would fit"));
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { ReadAll(folder_.Path("none.txt")); }),
              HasSubstr("no such file"));
}

}  // namespace
}  // namespace cairn
