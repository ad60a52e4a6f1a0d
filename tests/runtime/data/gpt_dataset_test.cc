#include "runtime/data/gpt_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "tests/runtime/data/data_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Range = std::pair<int64_t, int64_t>;
using Documents = std::vector<std::vector<int32_t>>;

nlohmann::json Reference() {
  return nlohmann::json::parse(
      ReadFile(CAIRN_SOURCE_DIR "/tests/runtime/data/sample_index_reference.json"));
}

TEST(SampleIndexTest, EqualsTheNumpyReference) {
  const auto reference = Reference();
  ASSERT_GE(reference["cases"].size(), 10U);
  for (const auto& item : reference["cases"]) {
    SCOPED_TRACE(item["num_samples"].dump() + " samples of " + item["seq_length"].dump());
    const auto lengths = item["lengths"].get<std::vector<int32_t>>();
    std::optional<int64_t> num_samples;
    if (!item["num_samples"].is_null()) num_samples = item["num_samples"].get<int64_t>();
    const SampleIndex index = BuildSampleIndex(lengths, item["first"], item["last"], num_samples,
                                               item["seq_length"], item["seed"]);
    const auto& expected = item["index"];
    EXPECT_EQ(index.num_epochs, expected["epochs"].get<int64_t>());
    EXPECT_EQ(index.document_order, expected["order"].get<std::vector<int32_t>>());
    EXPECT_EQ(index.shuffle, expected["shuffle"].get<std::vector<uint32_t>>());
    std::vector<std::pair<uint32_t, int32_t>> begins;
    for (const auto& begin : index.begins) begins.emplace_back(begin.position, begin.offset);
    EXPECT_EQ(begins, (expected["begins"].get<std::vector<std::pair<uint32_t, int32_t>>>()));
  }
}

TEST(SampleIndexTest, RefusesWhatDoesNotFit) {
  const std::vector<int32_t> lengths = {0, 0, 3};
  const auto build = [&](int64_t last, int64_t num_samples, int64_t seq_length) {
    return [=] { BuildSampleIndex(lengths, 0, last, num_samples, seq_length, 0); };
  };
  EXPECT_THAT(ErrorText(ErrorKind::kData, build(2, 1, 4)), HasSubstr("no token"));
  EXPECT_THAT(ErrorText(ErrorKind::kConfig, build(3, 1, 0)), HasSubstr("seq_length"));
  EXPECT_THAT(ErrorText(ErrorKind::kConfig, build(3, 1, int64_t{1} << 40)),
              HasSubstr("seq_length"));
  EXPECT_THAT(ErrorText(ErrorKind::kConfig, build(3, -1, 4)), HasSubstr("number of samples"));
  EXPECT_THAT(ErrorText(ErrorKind::kConfig, build(3, int64_t{1} << 40, 4)),
              HasSubstr("number of samples"));
  EXPECT_THAT(ErrorText(ErrorKind::kData, build(3, 2'000'000'000, 2'000'000'000)),
              HasSubstr("would repeat their 3 tokens"));
}

TEST(SplitRangeTest, EqualsTheNumpyReference) {
  const auto reference = Reference();
  ASSERT_GE(reference["splits"].size(), 50U);
  for (const auto& item : reference["splits"]) {
    SCOPED_TRACE(item.dump());
    const auto bounds = item["bounds"].get<std::vector<int64_t>>();
    for (int part = 0; part < 3; ++part) {
      EXPECT_EQ(SplitRange(item["weights"], static_cast<DatasetSplit>(part), item["count"]),
                Range(bounds[part], bounds[part + 1]));
    }
  }
}

TEST(SplitRangeTest, RefusesMalformedWeights) {
  for (const char* weights : {"", ",", "1,,1", "1;2", "1,2,", "a", "-1,2", "0,0,0", "nan", "inf,1",
                              "1,2,3,4", "1e308,1e308", "1e999", "1 2"}) {
    EXPECT_THAT(
        ErrorText(ErrorKind::kConfig, [&] { SplitRange(weights, DatasetSplit::kTrain, 10); }),
        HasSubstr("such as \"969,30,1\""))
        << weights;
  }
  EXPECT_EQ(SplitRange(" 1 , 1 ", DatasetSplit::kTrain, 10), Range(0, 5));
}

class GptDatasetTest : public ::testing::Test {
 protected:
  std::shared_ptr<const IndexedDataset> Make(const Documents& documents) {
    WriteDataset(folder_.Path("corpus"), documents);
    return std::make_shared<IndexedDataset>(folder_.Path("corpus"));
  }
  static std::vector<int32_t> Get(const GptDataset& dataset, int64_t sample) {
    std::vector<int32_t> tokens(dataset.seq_length() + 1);
    dataset.Get(sample, tokens);
    return tokens;
  }

  TestFolder folder_;
};

// Documents 0..n-1 of growing length whose tokens are all different.
Documents CountingDocuments(int count) {
  Documents documents(count);
  int32_t next = 0;
  for (int i = 0; i < count; ++i) {
    documents[i].resize(i % 7);
    std::iota(documents[i].begin(), documents[i].end(), next);
    next += i % 7;
  }
  return documents;
}

TEST_F(GptDatasetTest, OneEpochCoversTheTokensOnceAndNeighboursShareOne) {
  const auto data = Make(CountingDocuments(40));
  const GptDataset dataset(data, {.split_weights = "1", .seq_length = 5, .seed = 3});
  EXPECT_EQ(dataset.size(), (data->num_tokens() - 1) / 5);
  EXPECT_EQ(dataset.num_epochs(), 1);
  std::multiset<int32_t> inputs;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const auto tokens = Get(dataset, i);
    inputs.insert(tokens.begin(), tokens.end() - 1);
  }
  EXPECT_EQ(static_cast<int64_t>(inputs.size()), dataset.size() * 5);
  for (const int32_t token : inputs) EXPECT_EQ(inputs.count(token), 1U);
}

TEST_F(GptDatasetTest, SplitsShareNoToken) {
  const auto data = Make(CountingDocuments(40));
  std::set<int32_t> seen;
  size_t total = 0;
  for (const auto split : {DatasetSplit::kTrain, DatasetSplit::kValid, DatasetSplit::kTest}) {
    const GptDataset dataset(
        data, {.split_weights = "2,1,1", .split = split, .num_samples = 50, .seq_length = 3});
    EXPECT_GE(dataset.size(), 50);
    EXPECT_GT(dataset.num_epochs(), 1);
    std::set<int32_t> mine;
    for (int64_t i = 0; i < dataset.size(); ++i) {
      const auto tokens = Get(dataset, i);
      mine.insert(tokens.begin(), tokens.end());
    }
    total += mine.size();
    seen.merge(mine);
  }
  EXPECT_EQ(seen.size(), total);
}

TEST_F(GptDatasetTest, SampleLongerThanAllDocumentsSpansThem) {
  const auto data = Make({{1, 2}, {}, {3}});
  const GptDataset dataset(data, {.split_weights = "1", .num_samples = 4, .seq_length = 10});
  EXPECT_EQ(dataset.size(), 4);
  for (int64_t i = 0; i < 4; ++i) {
    for (const int32_t token : Get(dataset, i)) EXPECT_TRUE(token >= 1 && token <= 3);
  }
}

TEST_F(GptDatasetTest, OrderDependsOnTheSeed) {
  const auto data = Make(CountingDocuments(60));
  GptDatasetOptions options = {.split_weights = "1", .num_samples = 30, .seq_length = 4, .seed = 1};
  const GptDataset first(data, options);
  const GptDataset again(data, options);
  options.seed = 2;
  const GptDataset other(data, options);
  int differ = 0;
  for (int64_t i = 0; i < 30; ++i) {
    EXPECT_EQ(Get(first, i), Get(again, i));
    differ += Get(first, i) != Get(other, i) ? 1 : 0;
  }
  EXPECT_GT(differ, 20);
}

TEST_F(GptDatasetTest, EmptySplitSaysWhatWouldFit) {
  const auto fails = [&](const Documents& documents, GptDatasetOptions options) {
    return ErrorText(ErrorKind::kData, [&] { const GptDataset dataset(Make(documents), options); });
  };
  EXPECT_THAT(
      fails(CountingDocuments(12),
            {.split = DatasetSplit::kTest, .num_samples = 5, .seq_length = 4}),
      HasSubstr("split \"969,30,1\" leaves test none of the 12 sequences; \"10,1,1\" would fit"));
  EXPECT_THAT(fails({{1, 2}}, {.split = DatasetSplit::kValid, .num_samples = 1, .seq_length = 1}),
              HasSubstr("\"0,1,0\" would fit"));
  EXPECT_THAT(
      fails({{1, 2}, {3}}, {.split = DatasetSplit::kTest, .num_samples = 1, .seq_length = 1}),
      HasSubstr("\"1,0,1\" would fit"));
  EXPECT_THAT(fails({{}, {}}, {.num_samples = 1, .seq_length = 1}), HasSubstr("holds no tokens"));
  EXPECT_THAT(fails({{}, {1, 2}}, {.split_weights = "1,1", .num_samples = 1, .seq_length = 1}),
              HasSubstr("the train split \"1,1\" (sequences 0 to 1) holds 0 tokens"));
  EXPECT_THAT(fails({{1, 2, 3}}, {.split_weights = "1", .seq_length = 3}),
              HasSubstr("holds 3 tokens, a sample takes seq_length + 1 = 4"));
  // The suggestions are true.
  for (int64_t count = 3; count < 40; ++count) {
    const auto text = std::to_string(count - 2) + ",1,1";
    EXPECT_EQ(SplitRange(text, DatasetSplit::kValid, count), Range(count - 2, count - 1));
    EXPECT_EQ(SplitRange(text, DatasetSplit::kTest, count), Range(count - 1, count));
  }
}

TEST_F(GptDatasetTest, TokenOutsideTheVocabularyNamesFileDocumentAndOffset) {
  const auto data = Make({{1, 2, 3, 50, 4}});
  const GptDataset dataset(data, {.split_weights = "1", .seq_length = 4, .vocab_size = 50});
  EXPECT_THAT(
      ErrorText(ErrorKind::kData, [&] { Get(dataset, 0); }),
      HasSubstr(
          "corpus.bin: byte 6: document 0, offset 3: token 50 is outside the vocabulary of 50"));
}

}  // namespace
}  // namespace cairn
