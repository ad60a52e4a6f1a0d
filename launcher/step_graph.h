#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "model/stage.h"
#include "runtime/device/device.h"

namespace cairn {

/// A step as the random numbers, the data and the loss scale make it.
struct StepInputs {
  int64_t iteration = 0;
  int64_t first_sample = 0;
  double loss_scale = 1;
};

/// The passes of a step, recorded once and launched in each step that follows. The first step runs
/// as ever: in it the libraries choose their algorithms and take their memory. The recording is
/// made anew when the loss scale changes, which is among the arguments of the recorded kernels.
class StepGraph {
 public:
  struct Passes {
    /// Makes the microbatches those of the passes that follow.
    std::function<void(std::vector<Microbatch>, const StepInputs&)> begin;
    /// All of them, and the sum of the gradients; the losses.
    std::function<std::vector<Tensor>(const StepInputs&)> run;
  };

  /// `device` can capture. `stage` has the microbatches that `passes.begin` was given.
  StepGraph(Device& device, const ModelStage& stage, Passes passes)
      : device_(&device), stage_(&stage), passes_(std::move(passes)) {}

  /// The losses of the step; they stay where they are and are another step's after the next call.
  std::vector<Tensor> Run(std::vector<Microbatch> microbatches, const StepInputs& inputs);

 private:
  void Capture(std::vector<Microbatch> microbatches, const StepInputs& inputs);
  /// Puts the samples where the recorded kernels read them.
  void Refill(const std::vector<Microbatch>& microbatches);

  Device* device_;
  const ModelStage* stage_;
  Passes passes_;
  bool warm_ = false;
  double loss_scale_ = 0;
  // What the recording reads and writes, which others would be given if it died before that.
  std::vector<Microbatch> microbatches_;
  std::vector<Tensor> losses_;
  std::unique_ptr<Replay> replay_;
};

}  // namespace cairn
