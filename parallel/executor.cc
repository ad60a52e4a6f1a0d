#include "parallel/executor.h"

#include <glog/logging.h>

namespace cairn {

PipelineExecutor::PipelineExecutor(const Schedule& schedule, const Mesh& mesh, Device& device,
                                   PipelineStage& stage, const Tape::Options& tape_options)
    : schedule_(schedule),
      mesh_(&mesh),
      device_(&device),
      stage_(&stage),
      tape_options_(tape_options) {
  CHECK_EQ(schedule.stages, mesh.shape().pp);
  CHECK_EQ(schedule.chunks, 1);
}

void PipelineExecutor::Forward(InFlight& flight, int microbatch, const Tape::Options& options) {
  flight.tape = std::make_unique<Tape>(options);
  Stream& stream = device_->compute_stream();
  if (!first_stage()) {
    Tensor received = Tensor::Empty(stage_->boundary_shape(), stage_->boundary_dtype(), *device_);
    mesh_->pp_forward().Recv(received, mesh_->coordinate().pp - 1, stream);
    flight.input = flight.tape->Input(std::move(received));
  }
  flight.output = stage_->Forward(*flight.tape, flight.input, microbatch);
  // Only its gradient is of interest from here on.
  flight.input.data = Tensor();
  if (!last_stage()) {
    mesh_->pp_forward().Send(flight.output.data, mesh_->coordinate().pp + 1, stream);
    flight.output.data = Tensor();
  }
}

void PipelineExecutor::BackwardInput(InFlight& flight, int microbatch, bool whole) {
  Stream& stream = device_->compute_stream();
  Tensor gradient;
  if (last_stage()) {
    gradient = stage_->LossGradient(microbatch);
  } else {
    gradient = Tensor::Empty(stage_->boundary_shape(), stage_->boundary_dtype(), *device_);
    mesh_->pp_backward().Recv(gradient, mesh_->coordinate().pp + 1, stream);
  }
  if (whole && first_stage()) {
    flight.tape->Backward(flight.output, std::move(gradient));  // nobody waits: the least memory
  } else {
    flight.tape->BackwardInput(flight.output, std::move(gradient));
  }
  flight.output.data = Tensor();
  if (!first_stage()) {
    mesh_->pp_backward().Send(flight.tape->TakeGradient(flight.input), mesh_->coordinate().pp - 1,
                              stream);
  }
}

std::vector<Tensor> PipelineExecutor::Run() {
  std::vector<InFlight> flights(schedule_.microbatches);
  std::vector<Tensor> outputs(last_stage() ? schedule_.microbatches : 0);
  int backwards_left = schedule_.microbatches;
  for (const Action& action : schedule_.ranks[mesh_->coordinate().pp]) {
    InFlight& flight = flights[action.microbatch];
    mesh_->world().recorder()->SetMicrobatch(action.microbatch);
    switch (action.kind) {
      case ActionKind::kForward:
        Forward(flight, action.microbatch, tape_options_);
        if (last_stage()) outputs[action.microbatch] = flight.output.data;
        break;
      case ActionKind::kBackward:
      case ActionKind::kBackwardInput:
        if (--backwards_left == 0 && before_last_backward_) before_last_backward_();
        BackwardInput(flight, action.microbatch, action.kind == ActionKind::kBackward);
        if (action.kind == ActionKind::kBackwardInput) break;
        [[fallthrough]];
      case ActionKind::kBackwardWeight:
        flight.tape->BackwardWeight();
        flight = InFlight();
        if (after_backward_) after_backward_(action.microbatch);
        break;
    }
  }
  mesh_->world().recorder()->SetMicrobatch(-1);
  return outputs;
}

std::vector<Tensor> PipelineExecutor::RunForwardOnly(int microbatches) {
  Tape::Options options = tape_options_;
  options.recording = false;
  std::vector<Tensor> outputs;
  for (int microbatch = 0; microbatch < microbatches; ++microbatch) {
    InFlight flight;
    Forward(flight, microbatch, options);
    if (last_stage()) outputs.push_back(flight.output.data);
  }
  return outputs;
}

}  // namespace cairn
