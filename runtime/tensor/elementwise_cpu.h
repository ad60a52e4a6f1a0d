#pragma once

#include "runtime/tensor/tensor.h"

/// CPU kernels behind elementwise.h; the dispatch there has checked shapes.
namespace cairn::cpu {

void Fill(const Tensor& destination, double value);
void CopyTo(const Tensor& destination, const Tensor& source);
void CopyBytesStrided(const Tensor& destination, const Tensor& source);
void AddTo(const Tensor& destination, const Tensor& source);
void Scale(const Tensor& destination, double factor);
void Add(const Tensor& out, const Tensor& a, const Tensor& b);

}  // namespace cairn::cpu
