#include "launcher/factories.h"

#include <algorithm>
#include <cmath>

#include "parallel/pipeline/verify.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

LayerCosts MakeLayerCosts(const TrainConfig& config) {
  return GptLayerCosts(config.model().hidden_size(), FfnHiddenSize(config),
                       config.model().seq_length(), PaddedVocabSize(config));
}

}  // namespace

GptConfig MakeGptConfig(const TrainConfig& config) {
  const auto& model = config.model();
  GptConfig gpt;
  gpt.num_layers = model.num_layers();
  gpt.seq_length = model.seq_length();
  gpt.max_position_embeddings = MaxPositionEmbeddings(config);
  gpt.vocab_size = model.vocab_size();
  gpt.padded_vocab_size = PaddedVocabSize(config);
  gpt.layer.hidden_size = model.hidden_size();
  gpt.layer.ffn_hidden_size = FfnHiddenSize(config);
  gpt.layer.num_attention_heads = model.num_attention_heads();
  gpt.layer.num_query_groups = NumQueryGroups(config);
  gpt.layer.norm_epsilon = model.norm_epsilon();
  gpt.layer.hidden_dropout = model.hidden_dropout();
  gpt.layer.attention_dropout = model.attention_dropout();
  gpt.layer.init_std = model.init_method_std();
  // GPT-2 and GPT-3: the residual stream sums 2 products a layer; its variance should not grow.
  gpt.layer.output_init_std =
      model.init_method_std() / std::sqrt(2.0 * static_cast<double>(model.num_layers()));
  return gpt;
}

MeshShape MakeMeshShape(const TrainConfig& config, int world_size) {
  MeshShape shape;
  shape.tp = config.parallel().tensor_model_parallel_size();
  shape.cp = config.parallel().context_parallel_size();
  shape.pp = config.parallel().pipeline_model_parallel_size();
  shape.dp = DataParallelSize(config, world_size);
  return shape;
}

DType MakeComputeDType(const TrainConfig& config) {
  const std::string& precision = config.train().precision();
  if (precision == "fp32") return DType::kFloat32;
  if (precision == "bf16") return DType::kBFloat16;
  if (precision == "fp16") return DType::kFloat16;
  Throw(ErrorKind::kConfig, "train.precision", "unknown precision \"{}\"", precision);
}

ParameterBuffers::Options MakeBufferOptions(const TrainConfig& config, const Mesh& mesh) {
  ParameterBuffers::Options options;
  options.compute_dtype = MakeComputeDType(config);
  options.exact_gradients = config.train().deterministic();
  options.bucket_bytes =
      static_cast<int64_t>(config.parallel().grad_reduce_bucket_mb() * (1 << 20));
  if (config.parallel().data_parallel_sharding_strategy() == "optim") {
    options.shards = mesh.dp().size();
    options.shard_index = mesh.dp().rank();
  }
  return options;
}

AdamWOptions MakeAdamWOptions(const TrainConfig& config) {
  const auto& optimizer = config.optimizer();
  AdamWOptions options;
  options.beta1 = optimizer.adam_beta1();
  options.beta2 = optimizer.adam_beta2();
  options.epsilon = optimizer.adam_eps();
  options.weight_decay = optimizer.weight_decay();
  options.clip_grad = optimizer.clip_grad();
  return options;
}

LossScaler::Options MakeLossScalerOptions(const TrainConfig& config) {
  const auto& optimizer = config.optimizer();
  LossScaler::Options options;
  if (config.train().precision() != "fp16") return options;
  options.dynamic = !optimizer.has_loss_scale();
  options.initial_scale = options.dynamic ? optimizer.initial_loss_scale() : optimizer.loss_scale();
  options.min_scale = optimizer.min_loss_scale();
  options.window = optimizer.loss_scale_window();
  options.hysteresis = optimizer.hysteresis();
  return options;
}

LrSchedule MakeLrSchedule(const TrainConfig& config) {
  const auto& optimizer = config.optimizer();
  LrSchedule schedule;
  schedule.style = ParseLrDecayStyle(optimizer.lr_decay_style());
  schedule.max_lr = optimizer.lr();
  schedule.min_lr = optimizer.min_lr();
  schedule.warmup_iters = optimizer.lr_warmup_iters();
  schedule.decay_iters = LrDecayIters(config);
  schedule.wsd_decay_iters = optimizer.wsd_decay_iters();
  return schedule;
}

LayerRange MakeLayerRange(const TrainConfig& config, int stage) {
  return SplitLayers(config.model().num_layers(), config.parallel().pipeline_model_parallel_size(),
                     MakeLayerCosts(config))[stage];
}

double TrainingFlopsPerToken(const TrainConfig& config) {
  const double masked = 2.0 * static_cast<double>(config.model().seq_length() - 1) *
                        static_cast<double>(config.model().hidden_size());
  return ModelFlopsPerToken(config) - 3 * masked * static_cast<double>(config.model().num_layers());
}

double ModelFlopsPerToken(const TrainConfig& config) {
  const LayerCosts costs = MakeLayerCosts(config);
  return 3 * (static_cast<double>(config.model().num_layers()) * costs.layer + costs.head);
}

Schedule MakeVerifiedSchedule(const TrainConfig& config, int world_size) {
  Schedule schedule = MakeSchedule(config.parallel().pipeline_schedule(),
                                   config.parallel().pipeline_model_parallel_size(),
                                   config.parallel().virtual_pipeline_model_parallel_size(),
                                   NumMicrobatches(config, world_size));
  Verify(schedule);
  return schedule;
}

std::unique_ptr<Device> MakeDevice(const TrainConfig& config, int local_rank) {
  if (config.train().device() != "cuda") return NewDevice(DeviceKind::kCpu);
  // More ranks than GPUs share them; a launcher that shows each rank its own GPU alone is fine too.
  return NewDevice(DeviceKind::kCuda, local_rank % std::max(1, CountCudaDevices()));
}

}  // namespace cairn
