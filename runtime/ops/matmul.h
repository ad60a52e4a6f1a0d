#pragma once

#include <cstdint>

#include "runtime/tensor/tensor.h"

namespace cairn {

struct MatmulOptions {
  bool transpose_a = false;  ///< op(a) = aᵀ
  bool transpose_b = false;  ///< op(b) = bᵀ
  bool accumulate = false;   ///< c += instead of c =
  /// Not 0: the product is cut into blocks of `row_block` rows (the last one may be shorter) and
  /// into column panels whose width depends on n alone, each computed on one thread. A row's bits
  /// then depend on its block's rows and place alone: not on the number of blocks or threads, nor
  /// on the address of the data.
  int64_t row_block = 0;
};

/// c [m, n] = op(a) [m, k] · op(b) [k, n] (+ c) (+ bias [n] in each row). a, b and bias have one
/// dtype (fp32, bf16, fp16); c has that dtype or fp32. Products are summed in fp32 and rounded
/// once. Rows may be strided (views); the elements of a row are adjacent.
void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options = {},
            const Tensor* bias = nullptr);

/// Fails where the operands are not what Matmul takes.
void CheckProduct(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
                  const Tensor* bias);

}  // namespace cairn
