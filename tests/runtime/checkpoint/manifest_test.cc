#include "runtime/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <limits>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// A sound manifest: one [4,2] F32 tensor in two chunks of two files, and its moment in one.
Manifest Sound() {
  const std::string digest(32, 'a');
  Manifest manifest;
  manifest.iteration = 7;
  manifest.config_text = "train {}";
  manifest.layout = {{"a", "1"}, {"b", "2"}};
  manifest.files = {{"x.safetensors", 148, 100, 1, digest}, {"y.safetensors", 116, 100, 2, digest}};
  manifest.tensors = {
      {"w",
       "weight",
       "F32",
       {4, 2},
       {{0, "w#0,0", 100, {0, 0}, {2, 2}, {11}}, {1, "w#2,0", 100, {2, 0}, {2, 2}, {12}}}},
      {"w", "exp_avg", "F32", {4, 2}, {{0, "w@exp_avg", 116, {0, 0}, {4, 2}, {13}}}}};
  return manifest;
}

std::string Problem(const Manifest& manifest) {
  try {
    ValidateManifest(manifest, "M");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    return error.message();
  }
  return "";
}

TEST(ManifestTest, RoundTripsThroughBytes) {
  Manifest manifest = Sound();
  manifest.consumed_samples = 1;
  manifest.tokens = std::numeric_limits<int64_t>::max();
  manifest.training_state = {0.1, 5,  -1,  3,   4, std::numeric_limits<uint64_t>::max(),
                             48,  50, 3.5, 0.25};
  manifest.config_text = std::string("\xff\0binary", 8);
  const std::string bytes = SerializeManifest(manifest);
  const Manifest copy = ParseManifest(bytes, "M");
  EXPECT_EQ(SerializeManifest(copy), bytes);
  EXPECT_EQ(copy.tokens, manifest.tokens);
  EXPECT_EQ(copy.config_text, manifest.config_text);
  EXPECT_EQ(copy.training_state.loss_scale, 0.1);
  EXPECT_EQ(copy.training_state.loss_scale_growth_tracker, 5);
  EXPECT_EQ(copy.training_state.loss_scale_hysteresis, -1);
  EXPECT_EQ(copy.training_state.optimizer_steps, 3);
  EXPECT_EQ(copy.training_state.skipped_iterations, 4);
  EXPECT_EQ(copy.training_state.seed, manifest.training_state.seed);
  EXPECT_EQ(copy.training_state.skipped_samples, 48);
  EXPECT_EQ(copy.training_state.loss_trend_count, 50);
  EXPECT_EQ(copy.training_state.loss_trend_mean, 3.5);
  EXPECT_EQ(copy.training_state.loss_trend_variance, 0.25);
  EXPECT_EQ(copy.layout, manifest.layout);
  ASSERT_NE(copy.Find("w", "exp_avg"), nullptr);
  EXPECT_EQ(copy.Find("w", "exp_avg")->chunks[0].entry, "w@exp_avg");
  EXPECT_EQ(copy.Find("w", "exp_avg_sq"), nullptr);
}

TEST(ManifestTest, NamesEntriesByWhereTheyBelong) {
  const Manifest manifest = Sound();
  for (const TensorEntry& tensor : manifest.tensors) {
    for (const Chunk& chunk : tensor.chunks) EXPECT_EQ(ChunkEntryName(tensor, chunk), chunk.entry);
  }
}

TEST(ManifestTest, OrdersNaturally) {
  EXPECT_TRUE(NaturalLess("layers.2.w", "layers.10.w"));
  EXPECT_FALSE(NaturalLess("layers.10.w", "layers.2.w"));
  EXPECT_TRUE(NaturalLess("layers.2", "layers.2.w"));
  EXPECT_TRUE(NaturalLess("a", "b"));
  EXPECT_FALSE(NaturalLess("a1", "a1"));
  EXPECT_NE(NaturalLess("a01", "a1"), NaturalLess("a1", "a01"));
  EXPECT_TRUE(NaturalLess("a99999999999999999999999998", "a99999999999999999999999999"));
}

struct BrokenCase {
  const char* name;
  std::function<void(Manifest&)> damage;
  const char* message;
};

class BrokenManifestTest : public ::testing::TestWithParam<BrokenCase> {};

TEST_P(BrokenManifestTest, IsRefused) {
  Manifest manifest = Sound();
  ASSERT_EQ(Problem(manifest), "");
  GetParam().damage(manifest);
  EXPECT_THAT(Problem(manifest), HasSubstr(GetParam().message));
  EXPECT_THROW(ParseManifest(SerializeManifest(manifest), "M"), Error);
}

std::vector<BrokenCase> BrokenCases() {
  using M = Manifest;
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  return {
      {"NewerFormat", [](M& m) { m.format_version = 2; }, "format version 2"},
      {"NoFormat", [](M& m) { m.format_version = 0; }, "format version 0"},
      {"NegativeIteration", [](M& m) { m.iteration = -1; }, "must not be negative"},
      {"NegativeSamples", [](M& m) { m.consumed_samples = -1; }, "must not be negative"},
      {"InfiniteScale",
       [](M& m) { m.training_state.loss_scale = std::numeric_limits<double>::infinity(); },
       "loss scale inf"},
      {"NegativeSkip", [](M& m) { m.training_state.skipped_samples = -1; }, "skipped samples -1"},
      {"TrendOfMinusOne", [](M& m) { m.training_state.loss_trend_count = -1; },
       "a loss trend of -1 losses"},
      {"TrendNaN", [](M& m) { m.training_state.loss_trend_mean = std::nan(""); }, "mean nan"},
      {"TrendVariance", [](M& m) { m.training_state.loss_trend_variance = -1; }, "variance -1"},
      {"NegativeSteps", [](M& m) { m.training_state.optimizer_steps = -1; }, "optimizer steps -1"},
      {"LayoutControl", [](M& m) { m.layout["k"] = "\n"; }, "layout entry"},
      {"FileWithFolder", [](M& m) { m.files[0].name = "a/x.safetensors"; }, "plain name"},
      {"FileAbove", [](M& m) { m.files[0].name = "../x.safetensors"; }, "plain name"},
      {"FileHidden", [](M& m) { m.files[0].name = ".safetensors"; }, "plain name"},
      {"FileIsCommit", [](M& m) { m.files[0].name = "COMMIT"; }, "plain name"},
      {"FileLong", [](M& m) { m.files[0].name = std::string(250, 'x') + ".safetensors"; },
       "plain name"},
      {"FileTwice", [](M& m) { m.files[1].name = m.files[0].name; }, "occurs twice"},
      {"HeaderBeyondFile", [](M& m) { m.files[0].header_bytes = 149; }, "a header of 149"},
      {"HeaderTiny", [](M& m) { m.files[0].header_bytes = 0; }, "a header of 0"},
      {"DigestShort", [](M& m) { m.files[0].xxh3_128 = "ab"; }, "XXH3"},
      {"DigestUpper", [](M& m) { m.files[0].xxh3_128[0] = 'A'; }, "XXH3"},
      {"FileWithoutChunks",
       [](M& m) {
         m.files.push_back({"z.safetensors", 18, 10, 1, std::string(32, 'a')});
       },
       "its chunks end at 10"},
      {"NameEmpty", [](M& m) { m.tensors[0].name = ""; }, "tensor name"},
      {"NameLong", [](M& m) { m.tensors[0].name = std::string(1025, 'n'); }, "tensor name"},
      {"NameReserved", [](M& m) { m.tensors[0].name = "a@b"; }, "tensor name"},
      {"NameControl", [](M& m) { m.tensors[0].name = "a\x1b[2J"; }, "tensor name"},
      {"KindUpper", [](M& m) { m.tensors[0].kind = "Weight"; }, "a kind has"},
      {"TensorTwice", [](M& m) { m.tensors[1].kind = "weight"; }, "occurs twice"},
      {"DType", [](M& m) { m.tensors[0].dtype = "F99"; }, "dtype \"F99\""},
      {"NegativeShape", [](M& m) { m.tensors[0].shape[0] = -4; }, "is not valid"},
      {"HugeShape",
       [](M& m) {
         m.tensors[0].shape = {kHuge, kHuge};
       },
       "is not valid"},
      {"Rank", [](M& m) { m.tensors[0].shape.assign(17, 1); }, "is not valid"},
      {"Hole", [](M& m) { m.tensors[0].chunks.pop_back(); }, "leave a hole"},
      {"Overlap", [](M& m) { m.tensors[0].chunks[1].offset[0] = 1; }, "overlap"},
      {"Outside", [](M& m) { m.tensors[0].chunks[1].offset[0] = 3; }, "not inside"},
      {"OffsetOverflow", [](M& m) { m.tensors[0].chunks[1].offset[0] = kHuge; }, "not inside"},
      {"OffsetRank", [](M& m) { m.tensors[0].chunks[1].offset.pop_back(); }, "not inside"},
      {"NoSuchFile", [](M& m) { m.tensors[0].chunks[1].file = 2; }, "file number 2 of 2"},
      {"EntryEmpty", [](M& m) { m.tensors[0].chunks[0].entry = ""; }, "malformed"},
      {"EntryTwice", [](M& m) { m.tensors[0].chunks[0].entry = "w@exp_avg"; }, "occurs twice"},
      {"InHeader", [](M& m) { m.tensors[0].chunks[0].file_offset = 99; }, "not in the data"},
      {"BeyondEnd", [](M& m) { m.tensors[0].chunks[0].file_offset = 140; }, "not in the data"},
      {"FileOffsetOverflow", [](M& m) { m.tensors[0].chunks[0].file_offset = ~uint64_t{0}; },
       "not in the data"},
      {"SharedBytes", [](M& m) { m.tensors[0].chunks[0].file_offset = 116; }, "begins at byte"},
      {"UncheckedBytes", [](M& m) { m.files[1].size = 120; }, "its chunks end at 116"},
      {"NoChecksum", [](M& m) { m.tensors[0].chunks[0].crc32c.clear(); }, "0 checksums"},
      {"ExtraChecksum", [](M& m) { m.tensors[0].chunks[0].crc32c.push_back(1); }, "2 checksums"},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, BrokenManifestTest, ::testing::ValuesIn(BrokenCases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ManifestTest, ForeignBytesAreRefused) {
  EXPECT_THROW(ParseManifest("not a manifest", "M"), Error);
  EXPECT_THROW(ParseManifest("", "M"), Error);
  EXPECT_THROW(ParseShardResult("\xff\xff\xff"), Error);
}

TEST(ManifestTest, MergesShards) {
  const TensorEntry half = {"layers.10.w", "weight", "F32", {4}, {{0, "e", 10, {0}, {2}, {1}}}};
  TensorEntry other = half;
  other.chunks[0].offset = {2};
  TensorEntry early = half;
  early.name = "layers.9.w";
  Manifest manifest;
  MergeShards({{{"a.safetensors", 18, 10, 0, ""}, {half}},
               {{"b.safetensors", 26, 10, 0, ""}, {other, early}}},
              manifest);
  ASSERT_EQ(manifest.files.size(), 2U);
  ASSERT_EQ(manifest.tensors.size(), 2U);
  EXPECT_EQ(manifest.tensors[0].name, "layers.9.w");
  ASSERT_EQ(manifest.tensors[1].chunks.size(), 2U);
  EXPECT_EQ(manifest.tensors[1].chunks[0].file, 0U);
  EXPECT_EQ(manifest.tensors[1].chunks[1].file, 1U);
  TensorEntry wrong = half;
  wrong.dtype = "BF16";
  try {
    MergeShards({{{"c.safetensors", 18, 10, 0, ""}, {wrong}}}, manifest);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("c.safetensors: tensor \"layers.10.w\" (weight) is BF16"));
  }
}

TEST(ManifestTest, AHundredThousandChunksAreFast) {
  constexpr uint32_t kChunks = 100'000;
  Manifest manifest;
  manifest.files = {{"x.safetensors", 100 + 4 * kChunks, 100, 1, std::string(32, 'a')}};
  TensorEntry tensor = {"w", "weight", "F32", {2, kChunks / 2}, {}};
  for (uint32_t i = 0; i < kChunks; ++i) {
    tensor.chunks.push_back(
        {0, "w#" + std::to_string(i), 100 + 4 * i, {i % 2, i / 2}, {1, 1}, {i}});
  }
  manifest.tensors = {tensor};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ParseManifest(SerializeManifest(manifest), "M").tensors[0].chunks.size(), kChunks);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace cairn
