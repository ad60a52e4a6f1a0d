#include "runtime/checkpoint/tiling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>

#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string Check(const std::vector<int64_t>& shape, const std::vector<Tile>& tiles) {
  std::vector<Rectangle> rectangles;
  rectangles.reserve(tiles.size());
  for (const Tile& tile : tiles) rectangles.push_back({tile.offset, tile.extent});
  return CheckTiling(shape, rectangles);
}

TEST(TilingTest, CountsElements) {
  using Shape = std::vector<int64_t>;
  const int64_t big = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(CheckedElements(Shape{}), 1U);
  EXPECT_EQ(CheckedElements(Shape{3, 4}), 12U);
  EXPECT_EQ(CheckedElements(Shape{3, 0}), 0U);
  EXPECT_EQ(CheckedElements(Shape{big, 2}), std::nullopt);
  EXPECT_EQ(CheckedElements(Shape{big, 2, 0}), std::nullopt);
  EXPECT_EQ(CheckedElements(Shape{-1}), std::nullopt);
}

TEST(TilingTest, AcceptsExactTilings) {
  EXPECT_EQ(Check({}, {{{}, {}}}), "");
  EXPECT_EQ(Check({0, 4}, {{{0, 0}, {0, 4}}}), "");
  EXPECT_EQ(Check({4, 4}, {{{0, 0}, {4, 4}}}), "");
  for (uint32_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(Check({7, 5, 9}, RandomTiling({7, 5, 9}, 40, seed)), "") << seed;
  }
  // A pinwheel, which no straight cut separates.
  EXPECT_EQ(Check({3, 3}, {{{0, 0}, {1, 2}},
                           {{0, 2}, {2, 1}},
                           {{2, 1}, {1, 2}},
                           {{1, 0}, {2, 1}},
                           {{1, 1}, {1, 1}}}),
            "");
}

TEST(TilingTest, NamesWhatIsWrong) {
  EXPECT_THAT(Check({4}, {{{0}, {2}}}), HasSubstr("hole: they have 2 of the 4"));
  EXPECT_THAT(Check({4}, {}), HasSubstr("hole"));
  EXPECT_THAT(Check({4}, {{{0}, {3}}, {{1}, {3}}}), HasSubstr("more than the 4"));
  EXPECT_THAT(Check({4}, {{{0}, {2}}, {{1}, {2}}}), HasSubstr("[0]+[2] and [1]+[2] overlap"));
  EXPECT_THAT(Check({4}, {{{2}, {3}}}), HasSubstr("not inside"));
  EXPECT_THAT(Check({4}, {{{-1}, {3}}}), HasSubstr("not inside"));
  EXPECT_THAT(Check({4}, {{{0, 0}, {4, 1}}}), HasSubstr("not inside"));
  EXPECT_THAT(Check({4}, {{{0}, {4}}, {{4}, {0}}}), HasSubstr("is empty"));
  EXPECT_THAT(Check({0}, {}), HasSubstr("one chunk, not 0"));
  EXPECT_THAT(Check({0}, {{{0}, {0}}, {{0}, {0}}}), HasSubstr("one chunk, not 2"));
  EXPECT_THAT(
      Check({std::numeric_limits<int64_t>::max()}, {{{std::numeric_limits<int64_t>::max()}, {1}}}),
      HasSubstr("not inside"));
}

TEST(TilingTest, FindsEveryOverlapOfRandomTilings) {
  // Shifting one tile by one keeps the sum of the sizes: only the pairs can tell.
  int shifted = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::vector<Tile> tiles = RandomTiling({12, 12}, 20, seed);
    Tile& tile = tiles[seed % tiles.size()];
    if (tile.offset[0] + tile.extent[0] == 12) continue;
    ++tile.offset[0];
    ++shifted;
    EXPECT_THAT(Check({12, 12}, tiles), HasSubstr("overlap")) << seed;
  }
  EXPECT_GT(shifted, 100);
}

TEST(TilingTest, IsFastForManyChunks) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Check({1000, 800}, RandomTiling({1000, 800}, 20'000, 1)), "");
  std::vector<Tile> grid;
  for (int64_t i = 0; i < 400; ++i) {
    for (int64_t j = 0; j < 250; ++j) grid.push_back({{i * 3, j * 2}, {3, 2}});
  }
  EXPECT_EQ(Check({1200, 500}, grid), "");
  std::vector<Tile> columns;
  for (int64_t j = 0; j < 100'000; ++j) columns.push_back({{0, j}, {8, 1}});
  EXPECT_EQ(Check({8, 100'000}, columns), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(TilingTest, RefusesAHostileClumpAtOnce) {
  // 10,000 equal tiles and as large a hole.
  const std::vector<Tile> tiles(10'000, {{0}, {1}});
  EXPECT_THAT(Check({10'000}, tiles), HasSubstr("no straight cut separates"));
}

TEST(TilingTest, RunsAreTheIntersection) {
  const Tile chunk = {{2, 4}, {3, 6}};
  const Tile wanted = {{0, 5}, {4, 3}};
  std::vector<CommonRun> runs;
  ForEachRun({chunk.offset, chunk.extent}, {wanted.offset, wanted.extent},
             [&](const CommonRun& run) { runs.push_back(run); });
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].chunk_begin, 1U);
  EXPECT_EQ(runs[0].wanted_begin, 6U);
  EXPECT_EQ(runs[0].length, 3U);
  EXPECT_EQ(runs[1].chunk_begin, 7U);
  EXPECT_EQ(runs[1].wanted_begin, 9U);
}

TEST(TilingTest, WholeRowsAreOneRun) {
  const Tile chunk = {{2, 0, 0}, {3, 6, 5}};
  const Tile wanted = {{0, 0, 0}, {9, 6, 5}};
  int runs = 0;
  ForEachRun({chunk.offset, chunk.extent}, {wanted.offset, wanted.extent},
             [&](const CommonRun& run) {
               ++runs;
               EXPECT_EQ(run.chunk_begin, 0U);
               EXPECT_EQ(run.wanted_begin, 60U);
               EXPECT_EQ(run.length, 90U);
             });
  EXPECT_EQ(runs, 1);
  const Tile apart = {{5, 0, 0}, {1, 6, 5}};
  ForEachRun({chunk.offset, chunk.extent}, {apart.offset, apart.extent},
             [&](const CommonRun&) { FAIL() << "they do not meet"; });
}

}  // namespace
}  // namespace cairn
