#pragma once

#include "runtime/tensor/tensor.h"

namespace cairn {

// Elementwise arithmetic on the compute stream of the tensors' device. All operands of a call live
// on one device; shapes are equal; unless said otherwise tensors are contiguous. On meta: nothing.

/// destination = 0, any dtype; contiguous.
void FillZero(const Tensor& destination);
/// destination = value; fp32, bf16, fp16, fp64.
void Fill(const Tensor& destination, double value);
/// destination = source, converted to the destination's floating dtype. Either may be strided.
void CopyTo(const Tensor& destination, const Tensor& source);
/// A contiguous copy of a strided view (same dtype, any dtype).
Tensor ContiguousCopy(const Tensor& source);
/// destination += source; floating dtypes that may differ; the sum is rounded once.
void AddTo(const Tensor& destination, const Tensor& source);
/// destination *= factor; fp32, bf16, fp16, fp64.
void Scale(const Tensor& destination, double factor);
/// out = a + b; same floating dtype.
void Add(const Tensor& out, const Tensor& a, const Tensor& b);

}  // namespace cairn
