#pragma once

#include <cstdint>
#include <vector>

#include "runtime/tensor/tensor.h"

namespace cairn {

/// The scalars of one step.
struct AdamWStep {
  float lr = 0;
  float beta1 = 0;
  float beta2 = 0;
  float epsilon = 0;
  float weight_decay = 0;      ///< of what decays
  float bias_correction1 = 1;  ///< 1 - beta1^t
  float bias_correction2 = 1;  ///< 1 - beta2^t
  float gradient_factor = 1;   ///< the gradient is multiplied by this first (clipping, loss scale)
};

/// Which elements of flat parameters decay. They lie in runs, by turns of those that do and those
/// that don't, so that one launch updates parameters of both kinds.
class DecayRuns {
 public:
  struct Part {  // a parameter, or a piece of one
    int64_t size;
    bool decays;
  };
  DecayRuns() = default;  ///< of no element
  /// `parts` lie one after the other. Small: the runs' ends are kept on `device`.
  DecayRuns(const std::vector<Part>& parts, Device& device);

  int64_t runs() const { return runs_; }
  /// int64 [runs()]: where each run ends; undefined without runs.
  const Tensor& ends() const { return ends_; }
  /// The number of elements.
  int64_t numel() const { return numel_; }
  bool first_decays() const { return first_decays_; }

 private:
  Tensor ends_;
  int64_t runs_ = 0;
  int64_t numel_ = 0;
  bool first_decays_ = false;
};

/// One step of AdamW, decoupled weight decay (Loshchilov and Hutter 2019), on flat fp32 tensors:
/// `main` (the weights) and both moments change in the elements of `runs`, the gradient does not;
/// what follows those is padding. Elementwise: any split of the range gives the same bits.
void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const DecayRuns& runs, const AdamWStep& step);

}  // namespace cairn
