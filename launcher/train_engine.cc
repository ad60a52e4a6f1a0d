#include "launcher/train_engine.h"

#include <cmath>
#include <utility>

#include "parallel/checkpoint.h"
#include "parallel/initialize.h"
#include "runtime/base/error.h"
#include "runtime/ops/reduce.h"
#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {

TrainEngine::TrainEngine(const TrainConfig& config, const Mesh& mesh, Device& device)
    : config_(config),
      mesh_(&mesh),
      device_(&device),
      parallel_{&mesh, config.parallel().sequence_parallel() && mesh.shape().tp > 1},
      registry_(parallel_),
      loss_scaler_(MakeLossScalerOptions(config)),
      lr_schedule_(MakeLrSchedule(config)) {
  const GptConfig gpt = MakeGptConfig(config);
  stage_ = std::make_unique<GptStage>(registry_, gpt, MakeLayerRange(config, mesh.coordinate().pp));
  stage_->set_recompute(config.train().recompute_granularity() == "full");
  buffers_ =
      std::make_unique<ParameterBuffers>(registry_.list(), device, MakeBufferOptions(config, mesh));
  model_stage_ = std::make_unique<ModelStage>(*stage_, parallel_, gpt.layer.hidden_size,
                                              MakeComputeDType(config));
  reducer_ = std::make_unique<GradReducer>(*buffers_, mesh, buffers_->options().shards > 1,
                                           config.parallel().overlap_grad_reduce());
  optimizer_ = std::make_unique<DistributedOptimizer>(*buffers_, mesh, MakeAdamWOptions(config),
                                                      config.parallel().overlap_param_gather());
  Tape::Options tape_options;
  if (config.train().deterministic()) tape_options.rows_per_sample = gpt.seq_length;
  tape_options.keep_gelu_inputs = config.train().recompute_granularity() != "selective";
  executor_ = std::make_unique<PipelineExecutor>(MakeVerifiedSchedule(config, mesh.shape().world()),
                                                 mesh, device, *model_stage_, tape_options);
  executor_->set_before_last_backward([this] { reducer_->ExpectLastMicrobatch(); });
  if (config.train().cuda_graphs() && device.kind() == DeviceKind::kCuda) MakeStepGraph();
}

void TrainEngine::MakeStepGraph() {
  if (mesh_->shape().world() > 1 && !mesh_->world().recordable()) {
    Throw(ErrorKind::kConfig, "train.cuda_graphs",
          "ranks that share a GPU talk through host memory, which cannot be recorded. Leave "
          "cuda_graphs false, give each rank a GPU of its own, or take NCCL 2.30 or newer with "
          "NCCL_MULTI_RANK_GPU_ENABLE=1");
  }
  step_graph_ = std::make_unique<StepGraph>(
      *device_, *model_stage_,
      StepGraph::Passes{.begin =
                            [this](std::vector<Microbatch> microbatches, const StepInputs& inputs) {
                              BeginPasses(std::move(microbatches), inputs);
                            },
                        .run =
                            [this](const StepInputs& inputs) {
                              std::vector<Tensor> losses = RunPasses(inputs);
                              reducer_->Finish();
                              return losses;
                            }});
}

void TrainEngine::Initialize() {
  for (const StatePiece& piece : optimizer_->State()) {
    if (piece.kind == kWeightKind) {
      InitializeWeights(piece, static_cast<uint64_t>(config_.train().seed()));
    }
  }
}

void TrainEngine::Load(CheckpointReader& reader) {
  LoadPieces(reader, optimizer_->State());
  const Manifest& manifest = reader.manifest();
  const TrainingState& state = manifest.training_state;
  iteration_ = manifest.iteration;
  consumed_samples_ = manifest.consumed_samples;
  tokens_ = manifest.tokens;
  skipped_ = state.skipped_iterations;
  skipped_samples_ = state.skipped_samples;
  loss_trend_.set_state({state.loss_trend_count, state.loss_trend_mean, state.loss_trend_variance});
  optimizer_->set_steps(state.optimizer_steps);
  // At iteration 0 no loss was ever scaled: the scaler starts as this run's config says.
  if (iteration_ > 0 && config_.train().precision() == "fp16" &&
      !config_.optimizer().has_loss_scale()) {
    loss_scaler_.set_state(
        {state.loss_scale, state.loss_scale_growth_tracker, state.loss_scale_hysteresis});
  }
}

Manifest TrainEngine::Describe() const {
  Manifest manifest;
  manifest.iteration = iteration_;
  manifest.consumed_samples = consumed_samples_;
  manifest.tokens = tokens_;
  manifest.config_text = ConfigText(config_);
  const LossScaler::State& scaler = loss_scaler_.state();
  const LossTrend::State& trend = loss_trend_.state();
  manifest.training_state = {.loss_scale = scaler.scale,
                             .loss_scale_growth_tracker = scaler.good_steps,
                             .loss_scale_hysteresis = scaler.hysteresis_left,
                             .optimizer_steps = optimizer_->steps(),
                             .skipped_iterations = skipped_,
                             .seed = static_cast<uint64_t>(config_.train().seed()),
                             .skipped_samples = skipped_samples_,
                             .loss_trend_count = trend.count,
                             .loss_trend_mean = trend.mean,
                             .loss_trend_variance = trend.variance};
  manifest.layout = {
      {"tensor_model_parallel_size", std::to_string(mesh_->shape().tp)},
      {"pipeline_model_parallel_size", std::to_string(mesh_->shape().pp)},
      {"data_parallel_size", std::to_string(mesh_->shape().dp)},
      {"data_parallel_sharding_strategy", config_.parallel().data_parallel_sharding_strategy()}};
  return manifest;
}

std::vector<Microbatch> TrainEngine::ReadMicrobatches(const SampleReader& read,
                                                      int64_t first_sample) {
  ScopedWait wait(data_wait_);
  const int64_t seq = config_.model().seq_length();
  const int64_t size = config_.train().micro_batch_size();
  const int64_t per_rank = config_.train().global_batch_size() / mesh_->shape().dp;
  std::vector<Microbatch> microbatches;
  std::vector<int32_t> sample(seq + 1);
  for (int64_t begin = 0; begin < per_rank; begin += size) {
    Microbatch batch;
    batch.samples = size;
    batch.seq_length = seq;
    batch.first_sample = per_rank * mesh_->coordinate().dp + begin;
    std::vector<int32_t> tokens;
    std::vector<int32_t> targets;
    const bool needed = mesh_->first_stage() || mesh_->last_stage();
    for (int64_t i = 0; needed && i < size; ++i) {
      read(first_sample + batch.first_sample + i, sample);
      tokens.insert(tokens.end(), sample.begin(), sample.end() - 1);
      targets.insert(targets.end(), sample.begin() + 1, sample.end());
    }
    if (needed) {
      batch.tokens = Tensor::FromHost<int32_t>(tokens, {size * seq}, *device_);
      batch.targets = Tensor::FromHost<int32_t>(targets, {size * seq}, *device_);
    }
    microbatches.push_back(std::move(batch));
  }
  return microbatches;
}

double TrainEngine::ReduceLoss(const std::vector<Tensor>& losses, StepStatus& status) {
  const bool exact = config_.train().deterministic();
  const int64_t width = exact ? ExactScalar::kBins : 1;
  // After the sum: how many ranks want to stop, how many have finished their save, and each rank's
  // busy time.
  const Communicator& world = mesh_->world();
  const Tensor sums = Tensor::Zeros({width + 2 + world.size()}, DType::kFloat64, *device_);
  if (mesh_->coordinate().tp == 0) {  // every tp rank has the same losses
    for (const Tensor& loss : losses) {
      if (exact) {
        AddExactSum(sums.Narrow(0, 0, width), loss);
      } else {
        AddSum(sums.Narrow(0, 0, 1), loss);
      }
    }
  }
  if (status.stop_requested) Fill(sums.Narrow(0, width, 1), 1.0);
  if (status.save_finished) Fill(sums.Narrow(0, width + 1, 1), 1.0);
  Fill(sums.Narrow(0, width + 2 + world.rank(), 1), status.busy_seconds[0]);
  if (mesh_->world().size() > 1) {
    mesh_->world().AllReduce(sums, ReduceOp::kSum, device_->compute_stream());
  }
  if (sums.on_meta()) return 0;
  const std::vector<double> host = sums.ToHost<double>();
  status.stop_requested = host[width] > 0;
  status.save_finished = host[width + 1] == world.size();
  status.busy_seconds.assign(host.begin() + width + 2, host.end());
  double sum = 0;
  for (int64_t i = width - 1; i >= 0; --i) sum += host[i];
  return sum /
         static_cast<double>(config_.train().global_batch_size() * config_.model().seq_length());
}

void TrainEngine::BeginPasses(std::vector<Microbatch> microbatches, const StepInputs& inputs) {
  const double tokens =
      static_cast<double>(config_.train().global_batch_size() * config_.model().seq_length());
  model_stage_->Begin(std::move(microbatches), static_cast<uint64_t>(config_.train().seed()),
                      static_cast<uint32_t>(inputs.iteration), true, inputs.loss_scale / tokens);
}

std::vector<Tensor> TrainEngine::RunPasses(const StepInputs& inputs) {
  reducer_->BeginStep(1.0 / inputs.loss_scale);
  return executor_->Run();
}

LossAnomaly TrainEngine::Judge(const StepOutcome& outcome) const {
  if (!std::isfinite(outcome.lm_loss)) return LossAnomaly::kLossNotFinite;
  const double spike = config_.train().loss_spike_z_score();
  return spike > 0 && outcome.loss_z_score >= spike ? LossAnomaly::kSpike : LossAnomaly::kNone;
}

TrainEngine::StepOutcome TrainEngine::Step(const SampleReader& read, const StepStatus& status) {
  StepOutcome outcome;
  outcome.loss_scale = loss_scaler_.scale();
  outcome.learning_rate = lr_schedule_.At(iteration_ + 1);
  outcome.status = status;
  last_step_ = {iteration_, next_sample(), outcome.loss_scale};
  const Stopwatch passes;
  std::vector<Microbatch> microbatches = ReadMicrobatches(read, last_step_.first_sample);
  std::vector<Tensor> losses;
  if (step_graph_ != nullptr) {
    optimizer_->AwaitWeights();  // a recording cannot wait for what was given before it
    losses = step_graph_->Run(std::move(microbatches), last_step_);
    outcome.forward_backward_seconds = passes.ElapsedSeconds();
  } else {
    BeginPasses(std::move(microbatches), last_step_);
    losses = RunPasses(last_step_);
    outcome.forward_backward_seconds = passes.ElapsedSeconds();
    reducer_->Finish();
  }
  // Known to all ranks before the weights change.
  outcome.lm_loss = ReduceLoss(losses, outcome.status);
  outcome.loss_z_score = loss_trend_.ZScore(outcome.lm_loss).value_or(0);
  outcome.anomaly = Judge(outcome);
  const StepResult result = optimizer_->Step(outcome.learning_rate, outcome.loss_scale,
                                             outcome.anomaly == LossAnomaly::kNone);
  outcome.grad_norm = result.grad_norm;
  outcome.skipped = result.skipped;
  const bool overflow = !std::isfinite(result.grad_norm);
  if (overflow && outcome.anomaly == LossAnomaly::kNone && !loss_scaler_.can_shrink()) {
    outcome.anomaly = LossAnomaly::kGradientNotFinite;
  }
  if (outcome.anomaly == LossAnomaly::kNone) loss_trend_.Add(outcome.lm_loss);
  loss_scaler_.Update(overflow);
  skipped_ += result.skipped ? 1 : 0;
  ++iteration_;
  consumed_samples_ += config_.train().global_batch_size();
  tokens_ += config_.train().global_batch_size() * config_.model().seq_length();
  return outcome;
}

Culprit TrainEngine::Diagnose(const SampleReader& read) {
  Diagnosis diagnosis(*mesh_, registry_.list(), last_step_.first_sample,
                      config_.train().global_batch_size() / mesh_->shape().dp);
  diagnosis.LookAtState(optimizer_->State());
  if (std::optional<Culprit> culprit = diagnosis.Conclude()) return *culprit;

  // Gradients stay apart, for a sum over ranks would not tell where it came from.
  executor_->set_before_last_backward({});
  executor_->set_after_backward([&](int microbatch) {
    diagnosis.LookAtGradients(model_stage_->microbatch(microbatch), buffers_->buckets());
  });
  model_stage_->set_probe(
      [&](const Microbatch& batch, std::string_view what, const Tensor& numbers) {
        diagnosis.LookAtForward(batch, what, numbers);
      });
  BeginPasses(ReadMicrobatches(read, last_step_.first_sample), last_step_);
  RunPasses(last_step_);
  model_stage_->set_probe({});
  executor_->set_after_backward({});
  executor_->set_before_last_backward([this] { reducer_->ExpectLastMicrobatch(); });
  if (std::optional<Culprit> culprit = diagnosis.Conclude()) return *culprit;

  reducer_->Finish();
  if (!std::isfinite(optimizer_->Step(0, last_step_.loss_scale, false).grad_norm)) {
    return {false, "the gradients of all ranks are finite, but their sum is not"};
  }
  return {false,
          "computed again, every number is finite: a bit flipped in a computation or on its way, "
          "and the weights are sound; if that happens again, a host is failing"};
}

double TrainEngine::Evaluate(const SampleReader& read, int64_t num_batches) {
  double sum = 0;
  for (int64_t batch = 0; batch < num_batches; ++batch) {
    std::vector<Microbatch> microbatches =
        ReadMicrobatches(read, batch * config_.train().global_batch_size());
    const int count = static_cast<int>(microbatches.size());
    model_stage_->Begin(std::move(microbatches), 0, 0, false, 0);
    StepStatus unused;
    sum += ReduceLoss(executor_->RunForwardOnly(count), unused);
  }
  return sum / static_cast<double>(num_batches);
}

}  // namespace cairn
