#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/shard_spec.h"
#include "runtime/autograd/weight.h"

namespace cairn {

/// How a parameter starts: a pure function of (seed, name, global element index).
struct InitSpec {
  enum class Kind : uint8_t { kZeros, kOnes, kNormal };
  Kind kind = Kind::kZeros;
  double standard_deviation = 0;  ///< of kNormal
};

/// One trainable tensor of this rank and everything the optimizer, the checkpoint and the planner
/// need to know about it: they look at these attributes, never at the name.
struct Parameter {
  std::string name;  ///< logical, with global layer numbers: "layers.3.mlp.fc1.weight"
  ShardSpec shard;
  InitSpec init;
  /// Weight decay applies (matrices; not biases and norms).
  bool decays = false;
  /// Every tp rank holds the same values; a norm over the mesh counts them once.
  bool tp_replicated = false;
  /// Each tp rank computes a part of the gradient (its share of the tokens under
  /// sequence_parallel): the parts are summed over tp. Implies tp_replicated.
  bool tp_partial_gradient = false;
  /// Also held by the other end of the pipeline (tied embedding): gradients of the two are summed,
  /// a norm counts the first stage's.
  bool tied_across_stages = false;

  /// Set by the parameter buffers: views of their flat memory.
  Weight weight;
};

/// Parameters of one rank in the order in which the forward pass first uses them.
using ParameterList = std::vector<Parameter*>;

}  // namespace cairn
