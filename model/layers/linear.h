#pragma once

#include <string>

#include "model/layers/parameter_registry.h"
#include "runtime/ops/gelu.h"

namespace cairn {

/// y = x·Wᵀ + b with the rows of W [out, in] cut over tp (Shoeybi et al. 2019, "Megatron-LM"):
/// takes rows between the products [T or T/tp, in], gives [T, out/tp].
class ColumnParallelLinear {
 public:
  ColumnParallelLinear(ParameterRegistry& registry, const std::string& name, int64_t in,
                       int64_t out, double standard_deviation);
  Value Forward(ForwardContext& context, const Value& x);
  /// The same, and GELU of it.
  Activated ForwardGelu(ForwardContext& context, const Value& x);

 private:
  ModelParallel parallel_;
  Parameter* weight_;
  Parameter* bias_;
};

/// y = x·Wᵀ with the columns of W [out, in] cut over tp: takes [T, in/tp], gives the sum over tp as
/// rows between the products [T or T/tp, out]. The bias is left to the caller, who fuses it with
/// the dropout and the residual that follow.
class RowParallelLinear {
 public:
  RowParallelLinear(ParameterRegistry& registry, const std::string& name, int64_t in, int64_t out,
                    double standard_deviation);
  Value Forward(ForwardContext& context, const Value& x);
  /// Of `x.after`.
  Value Forward(ForwardContext& context, const Activated& x);
  Weight& bias() { return bias_->weight; }

 private:
  Value Sum(ForwardContext& context, const Value& partial);

  ModelParallel parallel_;
  Parameter* weight_;
  Parameter* bias_;
};

/// Rows between the products → all T rows on every tp rank, and the conjugate in the backward pass.
Value EnterTensorParallel(ForwardContext& context, const ModelParallel& parallel, const Value& x);
/// Partial sums of all T rows → rows between the products, summed over tp.
Value LeaveTensorParallel(ForwardContext& context, const ModelParallel& parallel, const Value& x);

}  // namespace cairn
