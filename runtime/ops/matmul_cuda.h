#pragma once

#include <compare>
#include <cstdint>

#include "runtime/ops/matmul.h"

namespace cairn::cuda {

/// A row-major product as cuBLASLt sees it, column-major: cᵀ [n, m] = op(b)ᵀ · op(a)ᵀ, so that b is
/// its first matrix and a its second. Everything that the choice of an algorithm may depend on.
struct ProductShape {
  /// Rows, columns and leading dimension of a stored column-major matrix.
  struct Matrix {
    int64_t rows;
    int64_t columns;
    int64_t stride;
    auto operator<=>(const Matrix&) const = default;
  };

  ProductShape(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
               bool with_bias);
  auto operator<=>(const ProductShape&) const = default;

  Matrix first;   ///< b
  Matrix second;  ///< a
  Matrix out;     ///< c
  bool transpose_first;
  bool transpose_second;
  bool accumulate;
  bool bias;
  DType in;
  DType result;
  uint32_t alignment;  ///< in bytes, of all three; at most 16, which the fastest kernels ask for
};

}  // namespace cairn::cuda
