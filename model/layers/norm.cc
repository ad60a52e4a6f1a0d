#include "model/layers/norm.h"

#include "runtime/ops/norm.h"

namespace cairn {

NormLayer::NormLayer(ParameterRegistry& registry, const std::string& name, int64_t size,
                     double epsilon)
    : gamma_(&registry.RowVector(name + ".weight", size, InitSpec::Kind::kOnes)),
      beta_(&registry.RowVector(name + ".bias", size, InitSpec::Kind::kZeros)),
      epsilon_(epsilon) {}

Value NormLayer::Forward(ForwardContext& context, const Value& x) {
  Value y = LayerNorm(context.tape, x, gamma_->weight, beta_->weight, epsilon_);
  context.Observe(gamma_->name, y);
  return y;
}

}  // namespace cairn
