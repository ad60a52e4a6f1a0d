#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/autograd/tape.h"

namespace cairn {

/// A rank's part of the model as the executor sees it: one virtual stage, run for one microbatch of
/// the step at a time.
class PipelineStage {
 public:
  virtual ~PipelineStage() = default;

  /// Shape and dtype of what passes between stages.
  virtual Shape boundary_shape() const = 0;
  virtual DType boundary_dtype() const = 0;
  /// Runs the stage. `input` is what the previous stage sent (no data on the first stage). The last
  /// stage returns its loss per token.
  virtual Value Forward(Tape& tape, const Value& input, int microbatch) = 0;
  /// The gradient with which the backward pass of the last stage starts; shaped like its output.
  virtual Tensor LossGradient(int microbatch) = 0;
};

/// Runs any verified schedule on one rank: for each action it receives what the action needs, runs
/// it, and sends what others wait for. Sends never block, so a schedule that `Verify` accepts
/// cannot deadlock.
class PipelineExecutor {
 public:
  /// `stage` is this rank's only chunk. `tape_options` hold for every tape of the step.
  PipelineExecutor(const Schedule& schedule, const Mesh& mesh, Device& device, PipelineStage& stage,
                   const Tape::Options& tape_options);

  /// Called before the first backward action of the last microbatch to be finished.
  void set_before_last_backward(std::function<void()> hook) {
    before_last_backward_ = std::move(hook);
  }

  /// Called after each microbatch's backward pass, its weight gradients included.
  void set_after_backward(std::function<void(int microbatch)> hook) {
    after_backward_ = std::move(hook);
  }

  /// One pass over the schedule. Returns, on the last stage, the output of each microbatch.
  std::vector<Tensor> Run();
  /// Only the forward passes, without recording (evaluation).
  std::vector<Tensor> RunForwardOnly(int microbatches);

 private:
  struct InFlight {
    std::unique_ptr<Tape> tape;
    Value input;
    Value output;
  };

  void Forward(InFlight& flight, int microbatch, const Tape::Options& options);
  /// `whole`: the schedule wants the weights' gradients right after.
  void BackwardInput(InFlight& flight, int microbatch, bool whole);
  bool first_stage() const { return mesh_->first_stage(); }
  bool last_stage() const { return mesh_->last_stage(); }

  Schedule schedule_;
  const Mesh* mesh_;
  Device* device_;
  PipelineStage* stage_;
  Tape::Options tape_options_;
  std::function<void()> before_last_backward_;
  std::function<void(int)> after_backward_;
};

}  // namespace cairn
