#pragma once

#include <string>

#include "model/layers/parameter_registry.h"

namespace cairn {

/// LayerNorm (Ba et al. 2016) of rows between the products.
class NormLayer {
 public:
  NormLayer(ParameterRegistry& registry, const std::string& name, int64_t size, double epsilon);
  Value Forward(ForwardContext& context, const Value& x);

 private:
  Parameter* gamma_;
  Parameter* beta_;
  double epsilon_;
};

}  // namespace cairn
