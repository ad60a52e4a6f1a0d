#include "runtime/data/indexed_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <numeric>

#include "tests/runtime/data/data_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Documents = std::vector<std::vector<int32_t>>;

std::vector<int32_t> ReadAll(const IndexedDataset& data, int64_t document) {
  std::vector<int32_t> tokens(data.document_length(document));
  data.ReadDocument(document, 0, tokens);
  return tokens;
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string Index(uint8_t type, const std::vector<int32_t>& lengths,
                  const std::vector<int64_t>& pointers, const std::vector<int64_t>& documents) {
  std::string index("MMIDIDX\0\0", 9);
  index += Bytes<uint64_t>({1}) + Bytes<uint8_t>({type});
  index += Bytes<uint64_t>({lengths.size(), documents.size()});
  return index + Bytes(lengths) + Bytes(pointers) + Bytes(documents);
}

class IndexedDatasetTest : public ::testing::Test {
 protected:
  std::string Prefix() const { return folder_.Path("corpus"); }

  void WriteFiles(const std::string& bin, const std::string& idx) const {
    folder_.Write("corpus.bin", bin);
    folder_.Write("corpus.idx", idx);
  }
  std::string OpenError() const {
    return ErrorText(ErrorKind::kData, [&] { const IndexedDataset data(Prefix()); });
  }

  TestFolder folder_;
};

TEST_F(IndexedDatasetTest, RoundTripsBothTokenTypes) {
  const Documents documents = {{1, 2, 3}, {}, {499, 0}, {7}, {}};
  for (const int64_t vocab_size :
       {int64_t{500}, int64_t{65499}, int64_t{65500}, int64_t{1} << 31}) {
    WriteDataset(Prefix(), documents, vocab_size);
    const IndexedDataset data(Prefix());
    EXPECT_EQ(data.token_type(), vocab_size < 65500 ? TokenType::kUint16 : TokenType::kInt32);
    EXPECT_EQ(data.num_documents(), 5);
    EXPECT_EQ(data.num_sequences(), 5);
    EXPECT_EQ(data.num_tokens(), 6);
    for (size_t i = 0; i < documents.size(); ++i) {
      EXPECT_EQ(ReadAll(data, static_cast<int64_t>(i)), documents[i]);
    }
    std::vector<int32_t> part(2);
    data.ReadSequence(0, 1, part);
    EXPECT_THAT(part, ElementsAre(2, 3));
  }
  EXPECT_THAT(folder_.Names(), ElementsAre("corpus.bin", "corpus.idx"));
}

TEST_F(IndexedDatasetTest, WritesTheBytesOfTheFormat) {
  WriteDataset(Prefix(), {{258, 3}, {4}}, 300);
  EXPECT_EQ(ReadFile(Prefix() + ".bin"), std::string("\x02\x01\x03\x00\x04\x00", 6));
  EXPECT_EQ(ReadFile(Prefix() + ".idx"), Index(8, {2, 1}, {0, 4}, {0, 1, 2}));
}

TEST_F(IndexedDatasetTest, EmptyDatasetIsLegal) {
  WriteDataset(Prefix(), {});
  const IndexedDataset data(Prefix());
  EXPECT_EQ(data.num_documents(), 0);
  EXPECT_EQ(data.num_tokens(), 0);
}

TEST_F(IndexedDatasetTest, ReadsEveryTokenTypeAndDocumentsOfManySequences) {
  const std::vector<std::pair<int, std::string>> forms = {
      {1, Bytes<uint8_t>({5, 6, 100, 7, 8})}, {2, Bytes<int8_t>({5, 6, 100, 7, 8})},
      {3, Bytes<int16_t>({5, 6, 100, 7, 8})}, {4, Bytes<int32_t>({5, 6, 100, 7, 8})},
      {5, Bytes<int64_t>({5, 6, 100, 7, 8})}, {8, Bytes<uint16_t>({5, 6, 100, 7, 8})}};
  for (const auto& [type, bin] : forms) {
    const auto size = static_cast<int64_t>(bin.size() / 5);
    WriteFiles(bin, Index(type, {2, 1, 0, 2}, {0, 2 * size, 3 * size, 3 * size}, {0, 3, 4}));
    const IndexedDataset data(Prefix());
    EXPECT_EQ(data.num_documents(), 2) << TokenTypeName(data.token_type());
    EXPECT_THAT(ReadAll(data, 0), ElementsAre(5, 6, 100));
    EXPECT_THAT(ReadAll(data, 1), ElementsAre(7, 8));
  }
}

TEST_F(IndexedDatasetTest, TokensOutsideTheVocabularyAreLocated) {
  WriteFiles(Bytes<int32_t>({5, 6, 100, 7, -8}), Index(4, {2, 1, 0, 2}, {0, 8, 12, 12}, {0, 3, 4}));
  const IndexedDataset data(Prefix());
  std::vector<int32_t> tokens(1);
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { data.ReadSequence(1, 0, tokens, 100); }),
              HasSubstr("corpus.bin: byte 8: document 0, offset 2: token 100 is outside the "
                        "vocabulary of 100"));
  data.ReadSequence(1, 0, tokens, 101);
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { data.ReadSequence(3, 1, tokens); }),
              HasSubstr("corpus.bin: byte 16: document 1, offset 1: token -8"));
  WriteFiles(Bytes<int64_t>({int64_t{1} << 40}), Index(5, {1}, {0}, {0, 1}));
  const IndexedDataset wide(Prefix());
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { wide.ReadSequence(0, 0, tokens); }),
              HasSubstr("token 1099511627776"));
}

TEST_F(IndexedDatasetTest, DamageIsNamedWithFileAndByte) {
  const std::string bin = Bytes<uint16_t>({1, 2, 3, 4, 5});
  const auto good = [] { return Index(8, {2, 3}, {0, 4}, {0, 1, 2}); };
  const auto patched = [&](size_t offset, auto value) {
    std::string index = good();
    std::memcpy(&index[offset], &value, sizeof(value));
    return index;
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {std::string(), "corpus.idx: byte 0: the index ends here"},
      {good().substr(0, 33), "corpus.idx: byte 33: the index ends here"},
      {patched(3, 'x'), "corpus.idx: byte 0: not an index"},
      {patched(9, uint64_t{2}), "corpus.idx: byte 9: index version 2"},
      {patched(17, uint8_t{7}), "corpus.idx: byte 17: type 7 is float32"},
      {patched(17, uint8_t{0}), "corpus.idx: byte 17: unknown token type 0"},
      {patched(17, uint8_t{4}), "corpus.idx: byte 50: sequence 1 is said to begin at byte 4"},
      {patched(18, uint64_t{1} << 62), "corpus.idx: byte 18: 4611686018427387904 sequences"},
      {patched(26, uint64_t{0}), "corpus.idx: byte 26: no document bounds"},
      {patched(26, ~uint64_t{0}), "corpus.idx: byte 26: 2 sequences and 18446744073709551615"},
      {good() + "x", "corpus.idx: byte 26: 2 sequences and 3 document bounds do not fill"},
      {patched(34, int32_t{-1}), "corpus.idx: byte 34: sequence 0 has a length of -1"},
      {patched(38, int32_t{4}),
       "corpus.idx: byte 38: sequence 1 of 4 uint16 tokens would take bytes 4 to 12"},
      {patched(38, int32_t{2}),
       "corpus.bin: byte 8: the index accounts for 8 bytes, the file has 10"},
      {patched(42, int64_t{2}), "corpus.idx: byte 42: sequence 0 is said to begin at byte 2"},
      {patched(58, int64_t{1}), "corpus.idx: byte 58: document bound 0"},
      {patched(66, int64_t{3}), "corpus.idx: byte 66: document bound 1 is sequence 3"},
      {patched(74, int64_t{1}), "corpus.idx: byte 74: document bound 2 is sequence 1"},
  };
  for (const auto& [index, message] : cases) {
    WriteFiles(bin, index);
    EXPECT_THAT(OpenError(), HasSubstr(message));
  }
}

TEST_F(IndexedDatasetTest, MissingFilesAreNamed) {
  EXPECT_THAT(OpenError(), HasSubstr("corpus.bin: no such file"));
  folder_.Write("corpus.bin", "");
  EXPECT_THAT(OpenError(), HasSubstr("corpus.idx: no such file"));
  std::filesystem::create_directory(folder_.Path("corpus.idx"));
  EXPECT_THAT(OpenError(), HasSubstr("corpus.idx: not a regular file"));
}

// Whatever one byte of the index becomes, or wherever a file ends: an error or a consistent
// dataset.
TEST_F(IndexedDatasetTest, EveryFlippedByteAndEveryTruncationIsAnErrorOrConsistent) {
  WriteDataset(Prefix(), {{1, 2, 3}, {4}, {5, 6}});
  const std::string bin = ReadFile(Prefix() + ".bin");
  const std::string idx = ReadFile(Prefix() + ".idx");
  int accepted = 0;
  const auto open = [&] {
    try {
      const IndexedDataset data(Prefix());
      int64_t tokens = 0;
      for (int64_t i = 0; i < data.num_documents(); ++i) {
        tokens += static_cast<int64_t>(ReadAll(data, i).size());
      }
      EXPECT_EQ(tokens, data.num_tokens());
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
      EXPECT_THAT(error.where(), HasSubstr(": byte "));
    }
  };
  for (size_t i = 0; i < idx.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      std::string damaged = idx;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      WriteFiles(bin, damaged);
      open();
    }
  }
  // uint16 told as int16, and the two inner document bounds moved within their neighbours.
  EXPECT_LE(accepted, 8);
  accepted = 0;
  for (size_t length = 0; length < idx.size(); ++length) {
    WriteFiles(bin, idx.substr(0, length));
    open();
  }
  for (size_t length = 0; length < bin.size(); ++length) {
    WriteFiles(bin.substr(0, length), idx);
    open();
  }
  EXPECT_EQ(accepted, 0);
}

TEST_F(IndexedDatasetTest, FileThatShrinksAfterOpeningIsAnError) {
  WriteDataset(Prefix(), {{1, 2, 3}});
  const IndexedDataset data(Prefix());
  std::filesystem::resize_file(Prefix() + ".bin", 2);
  EXPECT_THAT(ErrorText(ErrorKind::kData, [&] { ReadAll(data, 0); }),
              HasSubstr("corpus.bin: byte 2: the file ends here, 4 bytes early"));
}

TEST_F(IndexedDatasetTest, UnfinishedWriterLeavesTheOldDatasetAlone) {
  WriteDataset(Prefix(), {{1, 2, 3}});
  {
    IndexedDatasetWriter writer(Prefix(), 10);
    writer.Add(std::vector<int32_t>{4, 5});
    EXPECT_THAT(ErrorText(ErrorKind::kData,
                          [&] {
                            writer.Add(std::vector<int32_t>{1, 10});
                          }),
                HasSubstr("document 1: offset 1: token 10 is outside the vocabulary of 10"));
  }
  EXPECT_THAT(folder_.Names(), ElementsAre("corpus.bin", "corpus.idx"));
  EXPECT_THAT(ReadAll(IndexedDataset(Prefix()), 0), ElementsAre(1, 2, 3));
}

TEST_F(IndexedDatasetTest, WriterReportsAMissingFolder) {
  EXPECT_THAT(
      ErrorText(ErrorKind::kIo,
                [&] { const IndexedDatasetWriter writer(folder_.Path("none/corpus"), 10); }),
      HasSubstr("none/corpus.bin.tmp: open failed"));
}

}  // namespace
}  // namespace cairn
