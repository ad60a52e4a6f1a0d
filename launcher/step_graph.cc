#include "launcher/step_graph.h"

#include <glog/logging.h>

#include <utility>

namespace cairn {

std::vector<Tensor> StepGraph::Run(std::vector<Microbatch> microbatches, const StepInputs& inputs) {
  if (!std::exchange(warm_, true)) {
    passes_.begin(std::move(microbatches), inputs);
    return passes_.run(inputs);
  }
  if (replay_ != nullptr && loss_scale_ == inputs.loss_scale) {
    Refill(microbatches);
  } else {
    Capture(std::move(microbatches), inputs);
  }
  replay_->Launch(static_cast<uint32_t>(inputs.iteration));
  return losses_;
}

void StepGraph::Capture(std::vector<Microbatch> microbatches, const StepInputs& inputs) {
  // First the old recording's memory is given back: the new one may have it.
  replay_.reset();
  losses_.clear();
  microbatches_.clear();
  const size_t count = microbatches.size();
  passes_.begin(std::move(microbatches), inputs);
  // The stage forgets its own when other passes begin.
  for (size_t i = 0; i < count; ++i) {
    microbatches_.push_back(stage_->microbatch(static_cast<int>(i)));
  }
  loss_scale_ = inputs.loss_scale;
  replay_ = device_->Capture([&] { losses_ = passes_.run(inputs); });
  CHECK(replay_ != nullptr) << DeviceKindName(device_->kind()) << " cannot capture";
}

void StepGraph::Refill(const std::vector<Microbatch>& microbatches) {
  CHECK_EQ(microbatches.size(), microbatches_.size());
  const auto copy = [&](const Tensor& to, const Tensor& from) {
    if (to.defined()) device_->Copy(to.raw(), from.raw(), to.bytes(), device_->compute_stream());
  };
  for (size_t i = 0; i < microbatches.size(); ++i) {
    copy(microbatches_[i].tokens, microbatches[i].tokens);
    copy(microbatches_[i].targets, microbatches[i].targets);
  }
}

}  // namespace cairn
