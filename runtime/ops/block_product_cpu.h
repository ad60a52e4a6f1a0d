#pragma once

#include <cstdint>

#include "runtime/tensor/dtype.h"

/// Products of matrices that stay in a core's cache, on the calling thread, with fp32 sums: what
/// attention is made of. In fp32 by oneDNN; in bf16, whose small products cost oneDNN more than
/// their arithmetic, by vdpbf16ps: only where HasFastBFloat16Vectors().
namespace cairn::cpu {

/// Elements of a vector of sums. What is read and written along rows is rounded up to vectors.
inline constexpr int64_t kBlockLanes = 16;
inline constexpr int64_t RoundUpToLanes(int64_t n) {
  return (n + kBlockLanes - 1) / kBlockLanes * kBlockLanes;
}

/// On which sides of which products a matrix is to stand.
struct BlockSides {
  bool left = false;              ///< A of A·B and A·Bᵀ
  bool right_transposed = false;  ///< B of A·Bᵀ
  bool across = false;            ///< A of Aᵀ·B, B of A·B and Aᵀ·B
};

/// A matrix [rows, columns] in the forms that its products want.
template <typename E>
struct BlockMatrix;

/// One form serves all.
template <>
struct BlockMatrix<float> {
  float* data = nullptr;
  int64_t stride = 0;

  /// Takes memory from `scratch`, whose Take<E>(n) gives room for n elements.
  template <typename Scratch>
  BlockMatrix(Scratch& scratch, int64_t rows, int64_t columns, BlockSides /*sides*/)
      : BlockMatrix(scratch.template Take<float>(rows * RoundUpToLanes(columns)),
                    RoundUpToLanes(columns)) {}
  BlockMatrix(float* data, int64_t stride) : data(data), stride(stride) {}

  /// Rows from `first` on.
  BlockMatrix From(int64_t first) const { return {data + first * stride, stride}; }
};

/// vdpbf16ps adds the products of two pairs: pairs along the dimension that is summed over.
template <>
struct BlockMatrix<BFloat16> {
  BFloat16* left = nullptr;              ///< (r, c); null, as the others: not in this form
  BFloat16* right_transposed = nullptr;  ///< (c / 2, r, c % 2)
  BFloat16* across = nullptr;            ///< (r / 2, c, r % 2)
  int64_t left_stride = 0;               ///< elements from a line to the next
  int64_t right_transposed_stride = 0;
  int64_t across_stride = 0;

  template <typename Scratch>
  BlockMatrix(Scratch& scratch, int64_t rows, int64_t columns, BlockSides sides)
      : left_stride(RoundUpToLanes(columns)),
        right_transposed_stride(2 * RoundUpToLanes(rows)),
        across_stride(2 * RoundUpToLanes(columns)) {
    const auto take = [&](int64_t n) { return scratch.template Take<BFloat16>(n); };
    if (sides.left) left = take(rows * left_stride);
    if (sides.right_transposed)
      right_transposed = take((columns + 1) / 2 * right_transposed_stride);
    if (sides.across) across = take((rows + 1) / 2 * across_stride);
  }

  /// Rows from `first` on, which is even.
  BlockMatrix From(int64_t first) const {
    BlockMatrix part = *this;
    if (left != nullptr) part.left += first * left_stride;
    if (right_transposed != nullptr) part.right_transposed += 2 * first;
    if (across != nullptr) part.across += first / 2 * across_stride;
    return part;
  }
};

/// Fills every form of `to` with [rows, columns] of `from`, whose rows are `stride` apart, and with
/// zeros what rounding up adds. T: fp32, bf16, fp16; for bf16 blocks the first two.
template <typename E, typename T>
void LoadBlock(const BlockMatrix<E>& to, const T* from, int64_t stride, int64_t rows,
               int64_t columns);

/// c [m, n] = A·Bᵀ; A [m, depth], B [n, depth]. Here and below, rows of c are `ldc` apart and have
/// room for n rounded up to vectors, where anything may be written.
template <typename E>
void MultiplyTransposed(int64_t m, int64_t n, int64_t depth, const BlockMatrix<E>& a,
                        const BlockMatrix<E>& b, float* c, int64_t ldc);
/// c [m, n] += A·B; A [m, depth], B [depth, n].
template <typename E>
void AddProduct(int64_t m, int64_t n, int64_t depth, const BlockMatrix<E>& a,
                const BlockMatrix<E>& b, float* c, int64_t ldc);
/// c [m, n] += Aᵀ·B; A [depth, m], B [depth, n].
template <typename E>
void AddTransposedProduct(int64_t m, int64_t n, int64_t depth, const BlockMatrix<E>& a,
                          const BlockMatrix<E>& b, float* c, int64_t ldc);

}  // namespace cairn::cpu
