#pragma once

#include "runtime/tensor/tensor.h"

/// GPU kernels behind elementwise.h and exact_sum.h; the dispatch there has checked shapes.
namespace cairn::cuda {

void FillZero(const Tensor& destination);
void Fill(const Tensor& destination, double value);
void CopyTo(const Tensor& destination, const Tensor& source);
void AddTo(const Tensor& destination, const Tensor& source);
void Scale(const Tensor& destination, double factor);
void Add(const Tensor& out, const Tensor& a, const Tensor& b);

void ExactAddTo(const Tensor& hi, const Tensor& lo, const Tensor& term, double factor);
void ExactToFloat(const Tensor& sum, const Tensor& hi, const Tensor& lo);

}  // namespace cairn::cuda
