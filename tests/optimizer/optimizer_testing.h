#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "optimizer/distributed_optimizer.h"
#include "parallel/mesh.h"
#include "parallel/parameter_buffers.h"

namespace cairn::testing {

/// The optimizer's state of the whole model, put together from the pieces that ranks would save.
class GlobalState {
 public:
  /// Expects that no other rank writes the same elements. May be called by several threads.
  void Add(const StatePiece& piece);
  /// Expects that every element of every tensor was written.
  void ExpectComplete() const;
  /// The elements of "parameter/kind".
  const std::vector<float>& Of(const std::string& name) const { return tensors_.at(name).elements; }
  /// Expects the same bits.
  void ExpectEqual(const GlobalState& other) const;

 private:
  struct Global {
    std::vector<float> elements;
    std::vector<int> writers;
  };

  std::mutex mutex_;
  std::map<std::string, Global> tensors_;
};

struct OptimizerLayout {
  MeshShape mesh = {};
  bool shard = false;   ///< ZeRO-1
  bool exact = false;   ///< train.deterministic
  bool overlap = true;  ///< weights are gathered behind what follows
  DType dtype = DType::kFloat32;
  AdamWOptions adamw = {};
};

/// One rank of a model that has every kind of parameter (cut by rows, by columns, with padding, and
/// not at all; tied across stages) but no layers: gradients are given, as functions of (step,
/// parameter, global element).
class OptimizerRank {
 public:
  OptimizerRank(Communicator& world, const OptimizerLayout& layout);

  /// Fills the reduced gradients of step `step`, times `scale`, carrying `loss_scale`.
  void SetGradients(uint64_t step, double scale = 1, double loss_scale = 1);
  /// Overwrites the first element of this rank's part of the gradient.
  void SpoilGradient(float value);

  DistributedOptimizer& optimizer() { return optimizer_; }
  const Mesh& mesh() const { return mesh_; }
  /// What the forward pass reads, by parameter.
  std::vector<std::vector<float>> Weights() const;
  /// Expects that to be the rounded main weights of `state`.
  void ExpectWeights(const std::vector<std::vector<float>>& weights,
                     const GlobalState& state) const;

 private:
  ParameterList MakeParameters();
  Parameter& Add(const char* name, const ShardSpec& shard, bool decays);
  ParameterBuffers::Options BufferOptions() const;

  OptimizerLayout layout_;
  std::unique_ptr<Device> device_ = NewCpuDevice();
  Mesh mesh_;
  std::vector<std::unique_ptr<Parameter>> owned_;
  ParameterBuffers buffers_;
  DistributedOptimizer optimizer_;
};

/// Runs `body` on every rank of `layout`'s mesh and returns the state in which it leaves them.
std::unique_ptr<GlobalState> RunOptimizer(const OptimizerLayout& layout,
                                          const std::function<void(OptimizerRank& rank)>& body);

}  // namespace cairn::testing
