// Sums down columns as a GPU takes them: slices of rows by blocks of plain threads.
#include "runtime/ops/column_sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "thread_block_testing.h"

namespace cairn {
namespace {

using testing::ThreadBlock;

// A matrix in memory `gap` elements beyond a multiple of 16 bytes.
template <typename T>
struct Matrix {
  Matrix(int64_t rows, int64_t n, int64_t gap, uint32_t seed)
      : memory(static_cast<size_t>(rows * n + gap) / 4 + 4), at(Start() + gap) {
    std::minstd_rand random(seed);
    std::normal_distribution<float> normal(0.3F, 1);
    for (int64_t i = 0; i < rows * n; ++i) at[i] = T(normal(random));
  }
  T* Start() { return reinterpret_cast<T*>(memory.data()); }

  struct alignas(kPackBytes) Unit {
    float floats[4];
  };
  std::vector<Unit> memory;
  T* at;
};

// weight of the row * a * b, as the gradient of a norm's gamma has it.
struct Product {
  template <typename T>
  float operator()(int64_t row, const T& a, const T& b) const {
    return static_cast<float>(row % 5) * static_cast<float>(a) * static_cast<float>(b);
  }
};

template <bool kExact, typename T>
void RunBlocks(const ColumnSums& out, const ColumnSumLaunch& launch, int64_t rows, int64_t n,
               const T* a, const T* b) {
  std::vector<ColumnPart<kExact>> shared(kColumnLanes<T>);
  ThreadBlock::Run(launch.shape.threads, [&](const ThreadBlock& block) {
    // The last block first: no order among them is needed.
    for (int64_t index = launch.shape.blocks - 1; index >= 0; --index) {
      SumColumnTile<kExact>(block, shared.data(), out, index, launch, rows, n, Product(), a, b);
    }
  });
}

template <typename T>
class ColumnSumsTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(ColumnSumsTest, Types);

constexpr struct {
  int64_t rows, n, gap;
} kCases[] = {{1, 1, 0},     {16, 8, 0},    {17, 129, 0},  {300, 256, 0},
              {300, 264, 1}, {700, 257, 0}, {2100, 40, 0}, {0, 24, 0}};

TYPED_TEST(ColumnSumsTest, AddEveryRowOnce) {
  using T = TypeParam;
  for (const auto& [rows, n, gap] : kCases) {
    SCOPED_TRACE(::testing::Message() << rows << " x " << n << " at " << gap);
    const Matrix<T> a(rows, n, gap, 1), b(rows, n, 0, 2);
    const ColumnSumLaunch launch = MakeColumnSumLaunch(rows, n, kPackWidth<T>);
    EXPECT_EQ(launch.slices > 1, rows > 256);
    const auto columns = static_cast<size_t>(n);
    std::vector<float> sums(columns * static_cast<size_t>(launch.slices), 0.5F);
    RunBlocks<false>({sums.data(), nullptr, nullptr, 1}, launch, rows, n, a.at, b.at);
    for (size_t c = 0; c < columns; ++c) {
      double want = launch.slices == 1 ? 0.5 : 0.0;  // one slice is added, several are set
      double size = 1;
      for (int64_t r = 0; r < rows; ++r) {
        const size_t i = static_cast<size_t>(r * n) + c;
        want += double{Product()(r, a.at[i], b.at[i])};
        size += std::abs(double{Product()(r, a.at[i], b.at[i])});
      }
      double got = 0;
      for (int64_t s = 0; s < launch.slices; ++s) got += sums[static_cast<size_t>(s * n) + c];
      ASSERT_NEAR(got, want, 1e-6 * size) << "column " << c;
    }
  }
}

TYPED_TEST(ColumnSumsTest, ExactOnesHaveTheBitsOfAnyOrder) {
  using T = TypeParam;
  constexpr double kFactor = 0.125;
  for (const auto& [rows, n, gap] : kCases) {
    SCOPED_TRACE(::testing::Message() << rows << " x " << n << " at " << gap);
    const Matrix<T> a(rows, n, gap, 3), b(rows, n, gap, 4);
    const auto columns = static_cast<size_t>(n);
    std::vector<double> hi(columns, 1.0), lo(columns, 0.0), want_hi = hi, want_lo = lo;
    for (int64_t i = 0; i < rows * n; ++i) {
      const ExactParts parts = SplitExactly(Product()(i / n, a.at[i], b.at[i]), kFactor);
      want_hi[static_cast<size_t>(i % n)] += parts.hi;
      want_lo[static_cast<size_t>(i % n)] += parts.lo;
    }
    const ColumnSumLaunch launch = MakeColumnSumLaunch(rows, n, kPackWidth<T>);
    RunBlocks<true>({nullptr, hi.data(), lo.data(), kFactor}, launch, rows, n, a.at, b.at);
    EXPECT_EQ(hi, want_hi);
    EXPECT_EQ(lo, want_lo);
  }
}

}  // namespace
}  // namespace cairn
