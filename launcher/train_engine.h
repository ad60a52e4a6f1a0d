#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "launcher/diagnosis.h"
#include "launcher/factories.h"
#include "launcher/step_graph.h"
#include "model/stage.h"
#include "parallel/executor.h"
#include "parallel/grad_reducer.h"
#include "parallel/replica_check.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/telemetry/step_line.h"
#include "runtime/telemetry/stopwatch.h"

namespace cairn {

/// Fills `tokens` (seq_length + 1 of them) with sample `index` of the run.
using SampleReader = std::function<void(int64_t index, std::span<int32_t> tokens)>;

/// What a rank tells the others with the loss of a step, and what all of them said.
struct StepStatus {
  bool stop_requested = false;  ///< by this rank; by any
  bool save_finished = false;   ///< this rank's part of the oldest pending save; all parts
  std::vector<double> busy_seconds = {0};  ///< of this rank in the step before; of each rank
};

/// What is wrong with a step, which is then never applied.
enum class LossAnomaly : uint8_t {
  kNone,
  kLossNotFinite,
  kGradientNotFinite,  ///< but for an overflow that dynamic loss scaling answers
  kSpike,              ///< see train.loss_spike_z_score
};

/// One rank's part of a training run, from the weights to the optimizer: everything that a step
/// needs but the choice of data. Members are built in order and die in reverse.
class TrainEngine {
 public:
  struct StepOutcome {
    double lm_loss = 0;  ///< mean over the tokens of the global batch, on every rank
    double grad_norm = 0;
    double learning_rate = 0;
    double loss_scale = 1;
    bool skipped = false;
    LossAnomaly anomaly = LossAnomaly::kNone;
    double loss_z_score = 0;  ///< see LossTrend; 0 while there is no trend
    /// Of this rank's passes over the schedule; on a GPU, of launching them.
    double forward_backward_seconds = 0;
    StepStatus status;  ///< of all ranks
  };

  /// `config` is validated for the mesh's world and has its vocab_size. Communicates nothing.
  TrainEngine(const TrainConfig& config, const Mesh& mesh, Device& device);

  /// Weights as functions of the seed; see InitializeWeights.
  void Initialize();
  /// State and position from a checkpoint of any layout. Local errors: see LoadPieces.
  void Load(CheckpointReader& reader);
  /// After Load or Initialize, when all ranks have succeeded: makes the weights usable. Collective.
  void Publish() { optimizer_->PublishWeights(); }

  /// One optimizer step on the next global batch. `status` is this rank's; all ranks learn of all
  /// ranks' together.
  StepOutcome Step(const SampleReader& read, const StepStatus& status = {});
  /// After a Step that was not applied: runs its passes again and names what was not finite first,
  /// or says that this time everything is. Collective.
  Culprit Diagnose(const SampleReader& read);
  /// See CheckReplicas. Collective.
  void CheckReplicatedWeights() const { CheckReplicas(*mesh_, *buffers_); }
  /// Mean loss over `num_batches` global batches of another data split.
  double Evaluate(const SampleReader& read, int64_t num_batches);

  /// The manifest of a checkpoint of this moment, but for tensors and files.
  Manifest Describe() const;
  std::vector<StatePiece> State() { return optimizer_->State(); }

  int64_t iteration() const { return iteration_; }
  int64_t consumed_samples() const { return consumed_samples_; }
  int64_t skipped_iterations() const { return skipped_; }
  /// The number of the first sample of the next batch.
  int64_t next_sample() const { return consumed_samples_ + skipped_samples_; }
  /// Passes over the samples before `sample`, which is not below next_sample().
  void SkipTo(int64_t sample) { skipped_samples_ += sample - next_sample(); }
  const ParameterList& parameters() const { return registry_.list(); }
  ParameterBuffers& buffers() { return *buffers_; }
  /// Time spent reading samples.
  WaitClock& data_wait() { return data_wait_; }

 private:
  void MakeStepGraph();
  void BeginPasses(std::vector<Microbatch> microbatches, const StepInputs& inputs);
  /// The forward and backward passes of a step; gradients are not reduced yet.
  std::vector<Tensor> RunPasses(const StepInputs& inputs);
  LossAnomaly Judge(const StepOutcome& outcome) const;
  std::vector<Microbatch> ReadMicrobatches(const SampleReader& read, int64_t first_sample);
  /// Mean over the global batch of the last stage's losses. `status` goes from this rank's to all
  /// ranks'.
  double ReduceLoss(const std::vector<Tensor>& losses, StepStatus& status);

  TrainConfig config_;
  const Mesh* mesh_;
  Device* device_;
  ModelParallel parallel_;
  ParameterRegistry registry_;
  std::unique_ptr<GptStage> stage_;
  std::unique_ptr<ParameterBuffers> buffers_;
  std::unique_ptr<ModelStage> model_stage_;
  std::unique_ptr<GradReducer> reducer_;
  std::unique_ptr<DistributedOptimizer> optimizer_;
  std::unique_ptr<PipelineExecutor> executor_;
  std::unique_ptr<StepGraph> step_graph_;  // null: the passes are given kernel by kernel
  LossScaler loss_scaler_;
  LossTrend loss_trend_;
  LrSchedule lr_schedule_;
  WaitClock data_wait_;
  int64_t iteration_ = 0;
  int64_t consumed_samples_ = 0;
  int64_t tokens_ = 0;
  int64_t skipped_ = 0;
  int64_t skipped_samples_ = 0;
  StepInputs last_step_;
};

}  // namespace cairn
