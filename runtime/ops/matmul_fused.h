#pragma once

#include "runtime/autograd/weight.h"
#include "runtime/ops/matmul.h"

namespace cairn {

// A product and what follows it. On a GPU they are one kernel where its library has one and
// MayFuse() allows it, elsewhere one op after the other.

/// hidden [m, n] = a · op(b) + bias and y = gelu(hidden). One kernel takes GELU of the sum before
/// it is rounded to `hidden`. `bias` may be null; one dtype throughout.
void MatmulGelu(const Tensor& y, const Tensor& hidden, const Tensor& a, const Tensor& b,
                const MatmulOptions& options, const Tensor* bias);

/// dhidden = (a · op(b)) gelu'(hidden): from the gradient of what follows a GELU to that of what it
/// was applied to.
void MatmulGeluGradient(const Tensor& dhidden, const Tensor& a, const Tensor& b,
                        const Tensor& hidden, const MatmulOptions& options);

/// weight [out, in] += dyᵀ · x and bias [out] += Σ_t dy, both sums in fp32 (not exact).
void AddLinearGradients(MainGrad& weight, MainGrad& bias, const Tensor& dy, const Tensor& x);

}  // namespace cairn
