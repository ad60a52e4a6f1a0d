#include "runtime/data/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/data/data_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
