#include "parallel/shard_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// Flat index in `shape` of every element of the rectangle, in its own flat order.
std::vector<int64_t> FlatIndices(const Rectangle& rectangle, const Shape& shape) {
  std::vector<int64_t> indices;
  const int64_t count = rectangle.numel();
  for (int64_t k = 0; k < count; ++k) {
    int64_t rest = k;
    int64_t flat = 0;
    int64_t step = 1;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      flat += (rectangle.offset[d] + rest % rectangle.extent[d]) * step;
      rest /= rectangle.extent[d];
      step *= shape[d];
    }
    indices.push_back(flat);
  }
  return indices;
}

// Checks every [begin, end) of the local tensor of `spec` against elements counted one by one.
void CheckAllFlatRanges(const ShardSpec& spec) {
  const std::vector<int64_t> held = FlatIndices(spec.held, spec.global_shape);
  const int64_t local = spec.local_shape.numel();
  const auto most = static_cast<size_t>(std::max(1, 2 * spec.global_shape.rank() - 1));
  for (int64_t begin = 0; begin <= local; ++begin) {
    for (int64_t end = begin; end <= local; ++end) {
      std::vector<int64_t> local_offset;
      const std::vector<Rectangle> rectangles = spec.FlatRange(begin, end, &local_offset);
      ASSERT_EQ(rectangles.size(), local_offset.size());
      ASSERT_LE(rectangles.size(), most);
      // In flat order, without gap or overlap, up to the padding.
      int64_t next = begin;
      for (size_t i = 0; i < rectangles.size(); ++i) {
        ASSERT_EQ(local_offset[i], next);
        for (const int64_t index : FlatIndices(rectangles[i], spec.global_shape)) {
          ASSERT_EQ(index, held[next])
              << spec.local_shape.ToString() << " [" << begin << ", " << end << ") at " << next;
          ++next;
        }
      }
      ASSERT_EQ(next, std::max(begin, std::min<int64_t>(end, held.size())));
    }
  }
}

TEST(ShardSpec, FlatRangesTileExactly) {
  for (const Shape& shape :
       {Shape{}, Shape{1}, Shape{7}, Shape{4, 3}, Shape{1, 5}, Shape{5, 1}, Shape{0, 3},
        Shape{2, 3, 4}, Shape{3, 1, 5}, Shape{2, 0, 2}, Shape{2, 3, 2, 2}, Shape{2, 2, 1, 3, 2}}) {
    CheckAllFlatRanges(ShardSpec::Replicated(shape));
  }
}

TEST(ShardSpec, FlatRangesOfPieces) {
  for (int dim = 0; dim < 3; ++dim) {
    for (int index = 0; index < 2; ++index) {
      CheckAllFlatRanges(ShardSpec::Split({4, 2, 6}, dim, 2, index));
    }
  }
  for (const int64_t rows : {1, 5, 8, 11, 12}) {
    for (int index = 0; index < 4; ++index) {
      CheckAllFlatRanges(ShardSpec::SplitPadded({rows, 3}, 12, 4, index));
      CheckAllFlatRanges(ShardSpec::SplitPadded({rows}, 12, 4, index));
    }
  }
}

TEST(ShardSpec, PiecesTileTheTensor) {
  for (const auto& pieces :
       {std::vector<ShardSpec>{ShardSpec::Split({6, 4}, 0, 3, 0), ShardSpec::Split({6, 4}, 0, 3, 1),
                               ShardSpec::Split({6, 4}, 0, 3, 2)},
        {ShardSpec::Split({6, 4}, 1, 2, 0), ShardSpec::Split({6, 4}, 1, 2, 1)},
        {ShardSpec::SplitPadded({6, 4}, 12, 3, 0), ShardSpec::SplitPadded({6, 4}, 12, 3, 1),
         ShardSpec::SplitPadded({6, 4}, 12, 3, 2)}}) {
    std::vector<int> owners(24);
    for (const ShardSpec& piece : pieces) {
      for (const int64_t index : FlatIndices(piece.held, piece.global_shape)) ++owners[index];
    }
    EXPECT_EQ(owners, std::vector<int>(24, 1));
  }
}

TEST(ShardSpec, PaddingRowsBelongToNobody) {
  // 5 rows padded to 8 over 2 ranks: 4 and 1 (3 padding); over 8 ranks the last three hold nothing.
  const ShardSpec second = ShardSpec::SplitPadded({5, 2}, 8, 2, 1);
  EXPECT_EQ(second.local_shape, (Shape{4, 2}));
  EXPECT_EQ(second.held, (Rectangle{{4, 0}, {1, 2}}));
  const ShardSpec empty = ShardSpec::SplitPadded({5, 2}, 8, 8, 7);
  EXPECT_EQ(empty.local_shape, (Shape{1, 2}));
  EXPECT_EQ(empty.held.numel(), 0);
  EXPECT_TRUE(empty.FlatRange(0, 2).empty());
}

TEST(ShardSpec, RefusesWhatDoesNotDivide) {
  try {
    ShardSpec::Split({6, 10}, 1, 4, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_EQ(error.where(), "dimension 1 of [6, 10]");
    EXPECT_THAT(error.message(), HasSubstr("multiple of 4"));
  }
  EXPECT_THROW(ShardSpec::SplitPadded({6}, 7, 2, 0), Error);
  EXPECT_THROW(ShardSpec::SplitPadded({6}, 4, 2, 0), Error);
}

TEST(Rectangle, Intersection) {
  const Rectangle a{{0, 2}, {4, 4}};
  EXPECT_EQ(Intersect(a, {{2, 0}, {9, 3}}), (Rectangle{{2, 2}, {2, 1}}));
  EXPECT_EQ(Intersect(a, a), a);
  EXPECT_EQ(Intersect(a, {{4, 2}, {1, 1}}).numel(), 0);
  EXPECT_EQ(Intersect(a, {{9, 9}, {1, 1}}).numel(), 0);
  EXPECT_EQ(Intersect({}, {}).numel(), 1);
}

}  // namespace
}  // namespace cairn
