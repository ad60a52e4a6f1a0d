#include "model/layers/linear.h"

#include "parallel/comm_ops.h"
#include "runtime/ops/linear.h"

namespace cairn {

Value EnterTensorParallel(ForwardContext& context, const ModelParallel& parallel, const Value& x) {
  return parallel.sequence_parallel ? GatherFromSequenceParallel(context.tape, x, parallel.tp())
                                    : CopyToTensorParallel(context.tape, x, parallel.tp());
}

Value LeaveTensorParallel(ForwardContext& context, const ModelParallel& parallel, const Value& x) {
  return parallel.sequence_parallel
             ? ReduceScatterToSequenceParallel(context.tape, x, parallel.tp())
             : ReduceFromTensorParallel(context.tape, x, parallel.tp());
}

ColumnParallelLinear::ColumnParallelLinear(ParameterRegistry& registry, const std::string& name,
                                           int64_t in, int64_t out, double standard_deviation)
    : parallel_(registry.parallel()),
      weight_(
          &registry.Matrix(name + ".weight",
                           ShardSpec::Split({out, in}, 0, parallel_.tp_size(), parallel_.tp_rank()),
                           standard_deviation)),
      bias_(&registry.ShardedBias(name + ".bias", out)) {}

Value ColumnParallelLinear::Forward(ForwardContext& context, const Value& x) {
  const Value entered = EnterTensorParallel(context, parallel_, x);
  Value y = Linear(context.tape, entered, weight_->weight, &bias_->weight);
  context.Observe(weight_->name, y);
  return y;
}

Activated ColumnParallelLinear::ForwardGelu(ForwardContext& context, const Value& x) {
  const Value entered = EnterTensorParallel(context, parallel_, x);
  Activated y = LinearGelu(context.tape, entered, weight_->weight, &bias_->weight);
  context.Observe(weight_->name, y.before);
  return y;
}

RowParallelLinear::RowParallelLinear(ParameterRegistry& registry, const std::string& name,
                                     int64_t in, int64_t out, double standard_deviation)
    : parallel_(registry.parallel()),
      weight_(
          &registry.Matrix(name + ".weight",
                           ShardSpec::Split({out, in}, 1, parallel_.tp_size(), parallel_.tp_rank()),
                           standard_deviation)),
      bias_(&registry.RowVector(name + ".bias", out, InitSpec::Kind::kZeros)) {}

Value RowParallelLinear::Forward(ForwardContext& context, const Value& x) {
  return Sum(context, Linear(context.tape, x, weight_->weight, nullptr));
}

Value RowParallelLinear::Forward(ForwardContext& context, const Activated& x) {
  return Sum(context, Linear(context.tape, x, weight_->weight, nullptr));
}

Value RowParallelLinear::Sum(ForwardContext& context, const Value& partial) {
  // Before the sum: it tells which rank.
  context.Observe(weight_->name, partial);
  return LeaveTensorParallel(context, parallel_, partial);
}

}  // namespace cairn
