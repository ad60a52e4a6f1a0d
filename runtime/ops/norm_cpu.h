#pragma once

#include "runtime/autograd/weight.h"
#include "runtime/tensor/tensor.h"

/// CPU kernels behind norm.h; the dispatch there has checked shapes.
namespace cairn::cpu {

void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon);
void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd);
void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd);

}  // namespace cairn::cpu
