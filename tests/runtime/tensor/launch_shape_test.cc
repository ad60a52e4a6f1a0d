#include "runtime/tensor/launch_shape.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

// Sizes of real models, odd ones, and the edges.
constexpr int64_t kSizes[] = {1,
                              2,
                              31,
                              32,
                              33,
                              255,
                              256,
                              257,
                              768,
                              1023,
                              1024,
                              1025,
                              5120,
                              12288,
                              49152,
                              50257,
                              50304,
                              51200,
                              65535,
                              65536,
                              65537,
                              1 << 24,
                              int64_t{1} << 40};

void ExpectValid(const LaunchShape& shape) {
  EXPECT_GE(shape.blocks, 1u);
  EXPECT_LE(shape.blocks, kMaxBlocks);
  EXPECT_GE(shape.threads, kWarpThreads);
  EXPECT_LE(shape.threads, kMaxBlockThreads);
  EXPECT_EQ(shape.threads % kWarpThreads, 0u) << "reductions go by whole warps";
  EXPECT_EQ(shape.shared_bytes, 0u);
}

TEST(LaunchShapeTest, NothingToDoIsNoLaunch) {
  EXPECT_EQ(ElementLaunch(0).blocks, 0u);
  EXPECT_EQ(PackLaunch(0).blocks, 0u);
  EXPECT_EQ(RowLaunch(0, 12288).blocks, 0u);
  EXPECT_EQ(MakeColumnSumLaunch(100, 0, 8).shape.blocks, 0u);
}

TEST(LaunchShapeTest, ElementsAllHaveAThread) {
  for (const int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const LaunchShape shape = ElementLaunch(n);
    ExpectValid(shape);
    const int64_t threads = int64_t{shape.blocks} * shape.threads;
    if (shape.blocks < kMaxBlocks) {
      EXPECT_GE(threads, n);
      EXPECT_LT(threads - n, shape.threads) << "a block without work";
    }
  }
}

TEST(LaunchShapeTest, EightElementsShareAThread) {
  for (const int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const LaunchShape shape = PackLaunch(n);
    ExpectValid(shape);
    const int64_t elements = int64_t{shape.blocks} * shape.threads * 8;
    if (shape.blocks < kMaxBlocks) {
      EXPECT_GE(elements, n);
      EXPECT_LT(elements - n, int64_t{shape.threads} * 8) << "a block without work";
    }
  }
}

TEST(LaunchShapeTest, RowsAllHaveABlock) {
  for (const int64_t rows : {int64_t{1}, int64_t{7}, int64_t{8192}, int64_t{65537}}) {
    for (const int64_t n : kSizes) {
      SCOPED_TRACE(n);
      const LaunchShape shape = RowLaunch(rows, n);
      ExpectValid(shape);
      EXPECT_EQ(shape.blocks, std::min<int64_t>(rows, kMaxBlocks));
    }
  }
  EXPECT_EQ(RowLaunch(1, 768).threads, 96u);
  EXPECT_EQ(RowLaunch(1, 12288).threads, 1024u);
  EXPECT_EQ(RowLaunch(1, 50304).threads, 1024u);
}

TEST(LaunchShapeTest, HeldRowsFitTheirThreads) {
  for (const int64_t n : kSizes) {
    for (const int64_t bytes : {2, 4}) {
      SCOPED_TRACE(::testing::Message() << n << " of " << bytes);
      const LaunchShape shape = RowLaunch(1, n);
      const int64_t packs = PacksToHold(shape, n, bytes, 0x1000);
      EXPECT_GE(packs, 1);
      EXPECT_GE(packs * shape.threads, n * bytes / 16);
      EXPECT_LT((packs - 1) * shape.threads, std::max<int64_t>(1, n * bytes / 16));
      EXPECT_EQ(PacksToHold(shape, n, bytes, 0x1008), 0) << "not at a multiple of 16 bytes";
    }
  }
  EXPECT_EQ(PacksToHold(RowLaunch(1, 768), 768, 2, 0), 1);
  EXPECT_EQ(PacksToHold(RowLaunch(1, 12288), 12288, 2, 0), 2);
  EXPECT_EQ(PacksToHold(RowLaunch(1, 50304), 50304, 2, 0), 7);
}

TEST(LaunchShapeTest, SlicesOfColumnSumsTakeEveryRowOnce) {
  for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{255}, int64_t{257}, int64_t{16384},
                             int64_t{65537}, int64_t{1} << 20}) {
    for (const int64_t n : kSizes) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << n);
      const ColumnSumLaunch launch = MakeColumnSumLaunch(rows, n, 8);
      ExpectValid(launch.shape);
      EXPECT_EQ(launch.shape.threads, kTilePacks * kRowLanes);
      EXPECT_GE(launch.slices * launch.slice_rows, rows);
      EXPECT_LE((launch.slices - 1) * launch.slice_rows, std::max<int64_t>(0, rows - 1));
      EXPECT_EQ(launch.slice_rows % kRowLanes, 0);
      EXPECT_LE(launch.slice_rows, 64 * kRowLanes) << "an fp32 sum of too many rows";
      const int64_t tiles = (n + 8 * kTilePacks - 1) / (8 * kTilePacks);
      EXPECT_EQ(launch.shape.blocks, std::min<int64_t>(tiles * launch.slices, kMaxBlocks));
      const ColumnSumLaunch whole = MakeWholeColumnSumLaunch(rows, n, 8);
      EXPECT_EQ(whole.slices, 1);
      EXPECT_GE(whole.slice_rows, rows);
    }
  }
  EXPECT_GE(MakeColumnSumLaunch(65536, 768, 8).shape.blocks, 512u) << "a GPU is not filled";
}

}  // namespace
}  // namespace cairn
