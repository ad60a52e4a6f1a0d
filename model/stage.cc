#include "model/stage.h"

#include <glog/logging.h>

#include "runtime/tensor/elementwise.h"

namespace cairn {

void ModelStage::Begin(std::vector<Microbatch> microbatches, uint64_t seed, uint32_t step,
                       bool training, double gradient_scale) {
  CHECK(!microbatches.empty());
  microbatches_ = std::move(microbatches);
  seed_ = seed;
  step_ = step;
  training_ = training;
  if (!training || !parallel_.mesh->last_stage()) return;
  const Tensor& targets = microbatches_.front().targets;
  const Tensor loss_gradient = Tensor::Empty(targets.shape(), DType::kFloat32, targets.device());
  Fill(loss_gradient, gradient_scale);
  for (Microbatch& batch : microbatches_) batch.loss_gradient = loss_gradient;
}

Shape ModelStage::boundary_shape() const {
  return {parallel_.NumRows(microbatches_.front().num_tokens()), hidden_size_};
}

Value ModelStage::Forward(Tape& tape, const Value& input, int microbatch) {
  const Microbatch& batch = microbatches_[microbatch];
  ForwardContext context{tape, batch, seed_, step_, training_, {}};
  if (probe_) {
    // By value: a recomputation in the backward pass keeps it.
    context.probe = [this, &batch](std::string_view what, const Tensor& numbers) {
      if (probe_) probe_(batch, what, numbers);
    };
  }
  return stage_->Forward(context, input);
}

}  // namespace cairn
