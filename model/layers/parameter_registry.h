#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/forward_context.h"
#include "parallel/parameter.h"

namespace cairn {

/// Owns a model's parameters and makes them in the order in which the forward pass first uses them.
class ParameterRegistry {
 public:
  explicit ParameterRegistry(const ModelParallel& parallel) : parallel_(parallel) {}

  const ModelParallel& parallel() const { return parallel_; }

  /// A matrix that this rank holds a piece of (or all of); weight decay applies.
  Parameter& Matrix(const std::string& name, const ShardSpec& shard, double standard_deviation);
  /// A bias cut over tp like the rows of its matrix; starts at zero.
  Parameter& ShardedBias(const std::string& name, int64_t size);
  /// A vector applied to the rows between the products (norms, biases of row-parallel products):
  /// the same on every tp rank, with a partial gradient under sequence_parallel.
  Parameter& RowVector(const std::string& name, int64_t size, InitSpec::Kind init);

  /// Marks a parameter as applied to the rows between the products; see RowVector.
  void MarkReplicated(Parameter& parameter) const;

  const ParameterList& list() const { return list_; }

 private:
  Parameter& Add(const std::string& name, const ShardSpec& shard);

  ModelParallel parallel_;
  std::vector<std::unique_ptr<Parameter>> owned_;
  ParameterList list_;
};

}  // namespace cairn
