#pragma once

#include "runtime/tensor/tensor.h"

namespace cairn {

/// The scalars of one step.
struct AdamWStep {
  float lr = 0;
  float beta1 = 0;
  float beta2 = 0;
  float epsilon = 0;
  float weight_decay = 0;
  float bias_correction1 = 1;  ///< 1 - beta1^t
  float bias_correction2 = 1;  ///< 1 - beta2^t
  float gradient_factor = 1;   ///< the gradient is multiplied by this first (clipping, loss scale)
};

/// One step of AdamW, decoupled weight decay (Loshchilov and Hutter 2019), on flat fp32 [n]
/// tensors: `main` (the weights) and both moments change, the gradient does not. Elementwise: any
/// split of the range gives the same bits.
void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const AdamWStep& step);

}  // namespace cairn
