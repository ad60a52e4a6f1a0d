#include "runtime/checkpoint/tensor_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TensorStats StatsOf(const std::string& dtype, const std::vector<int64_t>& shape,
                    const std::string& bytes, HistogramScale scale = HistogramScale::kLog2,
                    int pieces = 3) {
  const TemporaryFolder folder;
  CheckpointReader reader(WriteTiledCheckpoint(
      folder.path(), {}, {{"t", "weight", dtype, shape, bytes}}, pieces, 2, 5));
  return ComputeStats(reader, *reader.Find("t", "weight"), scale);
}

TEST(TensorStatsTest, OfAFewKnownValues) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {3, -4, 0, nan, infinity, -infinity, nan, -0.0F, 1, 0};
  const TensorStats stats = StatsOf("F32", {5, 2}, BytesOf(values));
  EXPECT_EQ(stats.elements, 10U);
  EXPECT_EQ(stats.nans, 2U);
  EXPECT_EQ(stats.infinities, 2U);
  EXPECT_EQ(stats.zeros, 3U);
  EXPECT_EQ(stats.finite(), 6U);
  EXPECT_EQ(stats.min, -4);
  EXPECT_EQ(stats.max, 3);
  EXPECT_EQ(stats.mean, 0);
  EXPECT_EQ(stats.norm, std::sqrt(26.0));
  EXPECT_EQ(stats.deviation, std::sqrt(26.0 / 6));
  EXPECT_THAT(stats.histogram.edges, ElementsAre(-8, -4, -2, -1, 1, 2, 4, 8));
  EXPECT_THAT(stats.histogram.counts, ElementsAre(1, 0, 0, 3, 1, 1, 0));
}

TEST(TensorStatsTest, EqualBinsReachFromTheLeastToTheLargest) {
  std::vector<int32_t> values(64);
  std::iota(values.begin(), values.end(), -31);
  const TensorStats stats = StatsOf("I32", {64}, BytesOf(values), HistogramScale::kLinear);
  EXPECT_EQ(stats.min, -31);
  EXPECT_EQ(stats.max, 32);
  EXPECT_EQ(stats.mean, 0.5);
  ASSERT_EQ(stats.histogram.counts.size(), 32U);
  EXPECT_EQ(stats.histogram.edges.front(), -31);
  EXPECT_EQ(stats.histogram.edges.back(), 32);
  for (const uint64_t count : stats.histogram.counts) EXPECT_EQ(count, 2U);
  // The widest range there is, and the narrowest.
  const double most = std::numeric_limits<double>::max();
  const TensorStats wide =
      StatsOf("F64", {3}, BytesOf(std::vector<double>{-most, most, 0}), HistogramScale::kLinear);
  EXPECT_EQ(wide.histogram.counts.front(), 1U);
  EXPECT_EQ(wide.histogram.counts[16], 1U);
  EXPECT_EQ(wide.histogram.counts.back(), 1U);
  const TensorStats narrow =
      StatsOf("F64", {3}, BytesOf(std::vector<double>{2, 2, 2}), HistogramScale::kLinear);
  EXPECT_THAT(narrow.histogram.edges, ElementsAre(2, 2));
  EXPECT_THAT(narrow.histogram.counts, ElementsAre(3));
}

TEST(TensorStatsTest, OfNothingToSpeakOf) {
  for (const HistogramScale scale : {HistogramScale::kLog2, HistogramScale::kLinear}) {
    const TensorStats empty = StatsOf("F32", {0, 3}, "", scale, 1);
    EXPECT_EQ(empty.elements, 0U);
    EXPECT_EQ(empty.norm, 0);
    EXPECT_THAT(empty.histogram.counts, IsEmpty());
    const TensorStats bad =
        StatsOf("BF16", {2}, BytesOf(std::vector<uint16_t>{0x7fc0, 0x7f80}), scale);
    EXPECT_EQ(bad.nans, 1U);
    EXPECT_EQ(bad.infinities, 1U);
    EXPECT_EQ(bad.max, 0);
    EXPECT_THAT(bad.histogram.edges, IsEmpty());
  }
  EXPECT_THAT(StatsOf("F32", {2}, BytesOf(std::vector<float>{0, 0})).histogram.counts,
              ElementsAre(2));
}

TEST(TensorStatsTest, OfManyValuesInAnyTiling) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.5F, 2);
  std::vector<float> values(100'000);
  long double sum = 0;
  long double squares = 0;
  for (float& value : values) {
    value = normal(random);
    sum += value;
    squares += static_cast<long double>(value) * value;
  }
  for (const int pieces : {1, 2, 9}) {
    const TensorStats stats =
        StatsOf("F32", {400, 250}, BytesOf(values), HistogramScale::kLog2, pieces);
    EXPECT_EQ(stats.min, *std::ranges::min_element(values));
    EXPECT_EQ(stats.max, *std::ranges::max_element(values));
    EXPECT_NEAR(stats.mean, static_cast<double>(sum / 100'000), 1e-14);
    EXPECT_NEAR(stats.norm, static_cast<double>(std::sqrt(squares)), 1e-10);
    EXPECT_NEAR(stats.deviation, 2, 0.02);
    const auto& [edges, counts] = stats.histogram;
    ASSERT_EQ(edges.size(), counts.size() + 1);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), uint64_t{0}), 100'000U);
    for (size_t i = 0; i < counts.size(); ++i) {
      EXPECT_EQ(counts[i], std::ranges::count_if(values, [&](float v) {
                  return edges[i] > 0       ? v >= edges[i] && v < edges[i + 1]
                         : edges[i + 1] < 0 ? v > edges[i] && v <= edges[i + 1]
                                            : v == 0;
                }));
    }
  }
}

}  // namespace
}  // namespace cairn
