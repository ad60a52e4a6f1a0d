#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "runtime/ops/block_product_cpu.h"
#include "runtime/ops/cpu_isa.h"

namespace cairn::cpu {
namespace {

// Memory full of NaNs: what is not written shows.
class Heap {
 public:
  template <typename E>
  E* Take(int64_t elements) {
    auto& memory = memory_.emplace_back(elements * sizeof(E) / sizeof(uint16_t), uint16_t{0x7fff});
    return reinterpret_cast<E*>(memory.data());
  }

 private:
  std::vector<std::vector<uint16_t>> memory_;
};

// Whole numbers: exact in bf16, and their sums in fp32, in any order.
float Number(int64_t row, int64_t column, int64_t salt) {
  return static_cast<float>((row * 7 + column * 3 + salt) % 11 - 5);
}

constexpr int64_t kStride = 90;  // of the matrices that are loaded

template <typename T>
std::vector<T> Numbers(int64_t rows, int64_t salt) {
  std::vector<T> numbers;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < kStride; ++c) numbers.push_back(T(Number(r, c, salt)));
  }
  return numbers;
}

template <typename E>
void CheckProducts(int64_t m, int64_t n, int64_t depth) {
  SCOPED_TRACE(fmt::format("{} x {}, {} deep", m, n, depth));
  const int64_t ldc = RoundUpToLanes(n) + 3;
  const auto check = [&](const char* what, bool a_across, bool b_transposed, bool adds,
                         const auto& product) {
    SCOPED_TRACE(what);
    Heap heap;
    const int64_t a_rows = a_across ? depth : m;
    const int64_t b_rows = b_transposed ? n : depth;
    constexpr int64_t kFirst = 64;  // B is a part of a larger matrix
    const BlockMatrix<E> a(heap, a_rows, a_across ? m : depth,
                           {.left = !a_across, .across = a_across});
    const BlockMatrix<E> b(heap, kFirst + b_rows, b_transposed ? depth : n,
                           {.right_transposed = b_transposed, .across = !b_transposed});
    LoadBlock(a, Numbers<float>(a_rows, 1).data(), kStride, a_rows, a_across ? m : depth);
    LoadBlock(b, Numbers<E>(kFirst + b_rows, 2).data(), kStride, kFirst + b_rows,
              b_transposed ? depth : n);
    std::vector<float> c(m * ldc, 1000.0f);
    product(m, n, depth, a, b.From(kFirst), c.data(), ldc);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float expected = adds ? 1000.0f : 0.0f;
        for (int64_t k = 0; k < depth; ++k) {
          expected += (a_across ? Number(k, i, 1) : Number(i, k, 1)) *
                      (b_transposed ? Number(kFirst + j, k, 2) : Number(kFirst + k, j, 2));
        }
        ASSERT_EQ(c[i * ldc + j], expected) << i << ", " << j;
      }
      for (int64_t j = RoundUpToLanes(n); j < ldc; ++j) ASSERT_EQ(c[i * ldc + j], 1000.0f);
    }
  };
  check("A Bt", false, true, false, MultiplyTransposed<E>);
  check("A B", false, false, true, AddProduct<E>);
  check("At B", true, false, true, AddTransposedProduct<E>);
}

template <typename E>
void CheckAllSizes() {
  for (const int64_t m : {1, 2, 3, 4, 5, 7, 64}) {
    for (const int64_t n : {1, 15, 16, 17, 33, 64, 80}) {
      for (const int64_t depth : {1, 2, 3, 16, 33, 64}) CheckProducts<E>(m, n, depth);
    }
  }
}

TEST(BlockProductTest, Float32OfAllSizes) { CheckAllSizes<float>(); }

TEST(BlockProductTest, BFloat16OfAllSizes) {
  if (!HasFastBFloat16Vectors()) GTEST_SKIP() << "no fast vdpbf16ps here";
  CheckAllSizes<BFloat16>();
}

// Any processor: every form has each element at its place, rounded, and zeros in what is added.
TEST(BlockProductTest, FormsOfAMatrix) {
  constexpr int64_t kRows = 5;
  constexpr int64_t kColumns = 19;
  const auto number = [](int64_t r, int64_t c) { return 1.0f + r + c * 0x1p-9f; };
  std::vector<float> numbers(kRows * kStride, std::numeric_limits<float>::quiet_NaN());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) numbers[r * kStride + c] = number(r, c);
  }
  Heap heap;
  const BlockMatrix<BFloat16> block(heap, kRows, kColumns,
                                    {.left = true, .right_transposed = true, .across = true});
  LoadBlock(block, numbers.data(), kStride, kRows, kColumns);
  const auto at = [&](int64_t r, int64_t c) {
    return r < kRows && c < kColumns ? BFloat16(number(r, c)).bits : uint16_t{0};
  };
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < 32; ++c) {
      EXPECT_EQ(block.left[r * block.left_stride + c].bits, at(r, c)) << r << ", " << c;
    }
  }
  for (int64_t r = 0; r < 16; ++r) {
    for (int64_t c = 0; c < 20; ++c) {
      const int64_t place = c / 2 * block.right_transposed_stride + 2 * r + c % 2;
      EXPECT_EQ(block.right_transposed[place].bits, at(r, c)) << r << ", " << c;
    }
  }
  for (int64_t r = 0; r < 6; ++r) {
    for (int64_t c = 0; c < 32; ++c) {
      const int64_t place = r / 2 * block.across_stride + 2 * c + r % 2;
      EXPECT_EQ(block.across[place].bits, at(r, c)) << r << ", " << c;
    }
  }
}

}  // namespace
}  // namespace cairn::cpu
