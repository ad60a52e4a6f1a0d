#pragma once

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"

namespace cairn {

/// Layer normalisation (Ba et al. 2016): y = (x - mean) / sqrt(variance + epsilon) * gamma + beta
/// over each row of x [T, h]; gamma, beta [h] of x's dtype. Statistics in fp32, the variance from
/// the centred values. Saves x, mean and 1/sqrt(variance + epsilon).
Value LayerNorm(Tape& tape, const Value& x, Weight& gamma, Weight& beta, double epsilon);

/// y, x [T, h]; mean, rstd (= 1/sqrt(variance + epsilon)) fp32 [T].
void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon);
/// dx [T, h].
void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd);
/// gamma += sum of dy (x - mean) rstd over rows.
void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd);

}  // namespace cairn
