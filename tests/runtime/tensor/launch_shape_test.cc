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
  EXPECT_EQ(ColumnLaunch(0).blocks, 0u);
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

TEST(LaunchShapeTest, ColumnsAllHaveALane) {
  for (const int64_t n : kSizes) {
    SCOPED_TRACE(n);
    const LaunchShape shape = ColumnLaunch(n);
    ExpectValid(shape);
    EXPECT_EQ(shape.threads, kColumnsPerBlock * kRowLanes);
    if (shape.blocks < kMaxBlocks) {
      EXPECT_GE(int64_t{shape.blocks} * kColumnsPerBlock, n);
    }
  }
}

}  // namespace
}  // namespace cairn
