#pragma once

#include "runtime/autograd/weight.h"
#include "runtime/tensor/tensor.h"

namespace cairn {

/// grad [n] += each row of `rows` [T, n] (fp32, bf16, fp16): the gradient of a bias. An exact sum
/// takes each row by itself; an fp32 sum takes them in fixed blocks, in order.
void AddRowsToVector(MainGrad& grad, const Tensor& rows);

}  // namespace cairn
