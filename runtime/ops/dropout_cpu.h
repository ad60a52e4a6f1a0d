#pragma once

#include "runtime/ops/dropout.h"

/// CPU kernels behind dropout.h; the dispatch there has checked shapes.
namespace cairn::cpu {

void BiasDropoutAddForward(const Tensor& y, const Tensor& x, const Tensor* bias,
                           const Tensor* residual, const DropoutSpec& spec);

}  // namespace cairn::cpu
