#include "model/layers/parameter_registry.h"

namespace cairn {

Parameter& ParameterRegistry::Add(const std::string& name, const ShardSpec& shard) {
  owned_.push_back(std::make_unique<Parameter>());
  Parameter& parameter = *owned_.back();
  parameter.name = name;
  parameter.shard = shard;
  list_.push_back(&parameter);
  return parameter;
}

Parameter& ParameterRegistry::Matrix(const std::string& name, const ShardSpec& shard,
                                     double standard_deviation) {
  Parameter& parameter = Add(name, shard);
  parameter.init = {InitSpec::Kind::kNormal, standard_deviation};
  parameter.decays = true;
  return parameter;
}

Parameter& ParameterRegistry::ShardedBias(const std::string& name, int64_t size) {
  return Add(name, ShardSpec::Split({size}, 0, parallel_.tp_size(), parallel_.tp_rank()));
}

Parameter& ParameterRegistry::RowVector(const std::string& name, int64_t size,
                                        InitSpec::Kind init) {
  Parameter& parameter = Add(name, ShardSpec::Replicated({size}));
  parameter.init.kind = init;
  MarkReplicated(parameter);
  return parameter;
}

void ParameterRegistry::MarkReplicated(Parameter& parameter) const {
  parameter.tp_replicated = parallel_.tp_size() > 1;
  parameter.tp_partial_gradient = parameter.tp_replicated && parallel_.sequence_parallel;
}

}  // namespace cairn
