#pragma once

#include "runtime/tensor/tensor.h"

/// CPU kernels behind gelu.h; the dispatch there has checked shapes.
namespace cairn::cpu {

void GeluForward(const Tensor& y, const Tensor& x);
void GeluBackward(const Tensor& dx, const Tensor& dy, const Tensor& x);

}  // namespace cairn::cpu
