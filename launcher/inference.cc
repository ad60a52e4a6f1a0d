#include "launcher/inference.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "launcher/checkpoint_fit.h"
#include "parallel/checkpoint.h"
#include "parallel/initialize.h"
#include "parallel/local_communicator.h"
#include "runtime/checkpoint/store.h"
#include "runtime/ops/reduce.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

// Weights in fp32, filled by `fill` and rounded to the compute dtype, one parameter at a time.
template <typename F>
void FillWeights(ParameterBuffers& buffers, F&& fill) {
  for (Parameter* parameter : buffers.parameters()) {
    const Tensor& value = parameter->weight.value;
    const Tensor full = Tensor::Empty({value.numel()}, DType::kFloat32, buffers.device());
    fill(StatePiece{parameter, kWeightKind, full, 0, false});
    CopyTo(value, full.View(value.shape()));
  }
}

}  // namespace

LoadedModel::LoadedModel(const std::string& name, const Program& program) {
  if (std::filesystem::is_directory(name)) {
    const std::string directory = ResolveCheckpoint(name);
    CheckpointReader reader(directory);
    config_ = ConfigOf(reader.manifest(), directory);
    iteration_ = reader.manifest().iteration;
    if (std::cmp_less(reader.manifest().tensors.size(), config_.model().num_layers())) {
      Throw(ErrorKind::kCheckpoint, directory,
            "its config describes {} layers, it holds {} tensors", config_.model().num_layers(),
            reader.manifest().tensors.size());
    }
    BuildStage();
    CheckWeights(reader, registry_->list());
    BuildBuffers();
    FillWeights(*buffers_, [&](const StatePiece& piece) { LoadPieces(reader, {piece}); });
    return;
  }
  const std::vector<std::string> presets = PresetNames(program.sources);
  if (!std::filesystem::exists(name) && name != "-" &&
      std::find(presets.begin(), presets.end(), name) == presets.end()) {
    Throw(ErrorKind::kUsage, name,
          "there is no such checkpoint, run folder, config file or preset; cairn ckpt ls RUN lists "
          "the "
          "checkpoints of a run");
  }
  LoadedConfig loaded = LoadConfig(name, {}, program.sources);
  config_ = loaded.config;
  if (!config_.model().has_vocab_size() && config_.data().has_tokenizer()) {
    config_.mutable_model()->set_vocab_size(
        LoadTokenizer(config_.data().tokenizer())->vocab_size());
    loaded.config = config_;
  }
  ValidateConfig(loaded, std::nullopt);
  BuildStage();
  BuildBuffers();
  const auto seed = static_cast<uint64_t>(config_.train().seed());
  FillWeights(*buffers_, [&](const StatePiece& piece) { InitializeWeights(piece, seed); });
}

LoadedModel::~LoadedModel() = default;

void LoadedModel::BuildStage() {
  auto& parallel = *config_.mutable_parallel();
  parallel.set_tensor_model_parallel_size(1);
  parallel.set_pipeline_model_parallel_size(1);
  parallel.set_sequence_parallel(false);
  parallel.set_data_parallel_sharding_strategy("no_shard");
  // Where the run trained says nothing about where its checkpoint is used.
  if (CountCudaDevices() == 0) config_.mutable_train()->set_device("cpu");
  device_ = MakeDevice(config_, 0);
  world_ = NewSingleCommunicator();
  mesh_ = std::make_unique<Mesh>(*world_, MeshShape{});
  registry_ = std::make_unique<ParameterRegistry>(ModelParallel{mesh_.get(), false});
  stage_ =
      std::make_unique<GptStage>(*registry_, MakeGptConfig(config_),
                                 LayerRange{0, static_cast<int>(config_.model().num_layers())});
}

void LoadedModel::BuildBuffers() {
  ParameterBuffers::Options options;
  options.compute_dtype = MakeComputeDType(config_);
  options.trainable = false;
  buffers_ = std::make_unique<ParameterBuffers>(registry_->list(), *device_, options);
}

Microbatch LoadedModel::MakeBatch(std::span<const int32_t> tokens, int64_t seq_length) const {
  Microbatch batch;
  batch.seq_length = seq_length;
  batch.samples = static_cast<int64_t>(tokens.size()) / seq_length;
  batch.tokens = Tensor::FromHost<int32_t>(tokens, {static_cast<int64_t>(tokens.size())}, *device_);
  return batch;
}

std::vector<float> LoadedModel::NextLogits(std::span<const int32_t> tokens) {
  Tape tape(Tape::Options{.recording = false, .rows_per_sample = 0});
  const auto length = static_cast<int64_t>(tokens.size());
  const Microbatch batch = MakeBatch(tokens, length);
  ForwardContext context{tape, batch, 0, 0, false};
  const Tensor logits = stage_->ForwardLogits(context, Value{}).data;
  const Tensor last = Tensor::Empty({config_.model().vocab_size()}, DType::kFloat32, *device_);
  CopyTo(last, logits.Select(length - 1).Narrow(0, 0, config_.model().vocab_size()));
  return last.ToHost<float>();
}

double LoadedModel::SumOfLosses(std::span<const int32_t> tokens, std::span<const int32_t> targets) {
  Tape tape(Tape::Options{.recording = false, .rows_per_sample = 0});
  Microbatch batch = MakeBatch(tokens, config_.model().seq_length());
  batch.targets =
      Tensor::FromHost<int32_t>(targets, {static_cast<int64_t>(targets.size())}, *device_);
  ForwardContext context{tape, batch, 0, 0, false};
  const Tensor losses = stage_->Forward(context, Value{}).data;
  const Tensor sum = Tensor::Zeros({1}, DType::kFloat64, *device_);
  AddSum(sum, losses);
  return sum.ToHost<double>()[0];
}

}  // namespace cairn
