#pragma once

#include <compare>
#include <cstdint>

#include "runtime/ops/matmul.h"

namespace cairn::cuda {

/// What a product's kernel does besides: the names are cuBLASLt's epilogues.
struct Epilogue {
  enum class Kind : uint8_t {
    kNone,
    kGelu,          ///< c = gelu(side), side = the product and its bias
    kGeluGradient,  ///< c = the product times gelu'(side)
    kRowSums,       ///< bias [m] = the sums over the rows of op(a), fp32
  };

  Kind kind = Kind::kNone;
  const Tensor* bias = nullptr;  ///< [n], read; [m], written by kRowSums
  const Tensor* side = nullptr;  ///< of c's shape, contiguous
};

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
               const Epilogue& epilogue);
  auto operator<=>(const ProductShape&) const = default;

  Matrix first;   ///< b
  Matrix second;  ///< a
  Matrix out;     ///< c
  bool transpose_first;
  bool transpose_second;
  bool accumulate;
  bool bias;
  Epilogue::Kind epilogue;
  DType in;
  DType result;
  /// In bytes, that every row of all three matrices has; at most 16, which the fastest kernels ask
  /// for. It is that of the strides too: where the rows' places in memory differ from run to run,
  /// the choice does not.
  uint32_t alignment;
  uint32_t bias_alignment;
  /// Whether the algorithm may be chosen by time. Not under `row_block`, whose bits must not depend
  /// on the machine's mood.
  bool timed;
};

}  // namespace cairn::cuda
