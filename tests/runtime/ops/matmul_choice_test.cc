#include "runtime/ops/matmul_choice.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(FastestCandidateTest, HasTheLeastMedian) {
  using Times = std::vector<std::vector<float>>;
  const struct {
    Times times;
    std::optional<size_t> fastest;
  } cases[] = {
      {{}, std::nullopt},
      {{{}, {}}, std::nullopt},
      {{{3}}, 0},
      {{{3}, {2}, {4}}, 1},
      {{{3}, {}, {2}}, 2},
      {{{}, {9}}, 1},
      // One slow run says nothing, nor does one fast one.
      {{{2, 2, 9}, {3, 3, 3}}, 0},
      {{{1, 4, 4}, {3, 3, 3}}, 1},
      // Of equals the library's favourite.
      {{{2, 2, 2}, {1, 2, 3}, {2, 2, 2}}, 0},
      {{{5, 5}, {2, 8}, {2, 9}}, 1},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    EXPECT_EQ(FastestCandidate(cases[i].times), cases[i].fastest) << "case " << i;
  }
}

TEST(MayFuseTest, SaysWhichProductsTakeAnEpilogue) {
  const auto device = NewCpuDevice();
  const auto matrix = [&](DType dtype, int64_t columns) {
    return Tensor::Zeros({6, columns}, dtype, *device);
  };
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    const Tensor a = matrix(dtype, 5);
    EXPECT_TRUE(MayFuse(a, matrix(dtype, 64), {})) << DTypeName(dtype);
    EXPECT_TRUE(MayFuse(a, Tensor::Zeros({8}, DType::kFloat32, *device), {}));
    EXPECT_FALSE(MayFuse(a, matrix(dtype, 63), {})) << "rows of uneven places";
    EXPECT_FALSE(MayFuse(a, matrix(dtype, 64), {.row_block = 3})) << "train.deterministic";
    EXPECT_FALSE(MayFuse(a, matrix(dtype, 72).Narrow(1, 0, 64), {})) << "rows apart";
    EXPECT_FALSE(MayFuse(a, Tensor::Zeros({9}, DType::kFloat32, *device).Narrow(0, 1, 8), {}))
        << "address";
  }
  EXPECT_FALSE(MayFuse(matrix(DType::kFloat32, 5), matrix(DType::kFloat32, 64), {}));
}

}  // namespace
}  // namespace cairn
