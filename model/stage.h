#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "model/families/gpt/gpt.h"
#include "parallel/executor.h"

namespace cairn {

/// Runs a GptStage for the microbatches of a step: what the pipeline executor drives.
class ModelStage : public PipelineStage {
 public:
  ModelStage(GptStage& stage, const ModelParallel& parallel, int64_t hidden_size, DType dtype)
      : stage_(&stage), parallel_(parallel), hidden_size_(hidden_size), dtype_(dtype) {}

  /// The microbatches of the coming pass, all of one size. `gradient_scale` is the gradient of the
  /// training objective with respect to each token's loss: loss scale / tokens of the global batch.
  void Begin(std::vector<Microbatch> microbatches, uint64_t seed, uint32_t step, bool training,
             double gradient_scale);

  /// Watches the forward passes that follow; empty: nobody does.
  using Probe = std::function<void(const Microbatch&, std::string_view what, const Tensor&)>;
  void set_probe(Probe probe) { probe_ = std::move(probe); }
  const Microbatch& microbatch(int index) const { return microbatches_[index]; }

  Shape boundary_shape() const override;
  DType boundary_dtype() const override { return dtype_; }
  Value Forward(Tape& tape, const Value& input, int microbatch) override;
  Tensor LossGradient(int microbatch) override { return microbatches_[microbatch].loss_gradient; }

 private:
  GptStage* stage_;
  ModelParallel parallel_;
  int64_t hidden_size_;
  DType dtype_;
  std::vector<Microbatch> microbatches_;
  uint64_t seed_ = 0;
  uint32_t step_ = 0;
  bool training_ = true;
  Probe probe_;
};

}  // namespace cairn
