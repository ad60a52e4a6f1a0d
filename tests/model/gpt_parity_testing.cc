#include "tests/model/gpt_parity_testing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/executor.h"
#include "runtime/base/error.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kSeed = 77;
constexpr uint32_t kStep = 3;

std::vector<float> ToFloats(const Tensor& tensor) {
  const Tensor floats = Tensor::Empty(tensor.shape(), DType::kFloat32, tensor.device());
  CopyTo(floats, tensor);
  return floats.ToHost<float>();
}

// Ends in the logits instead of the loss.
class LogitsStage : public PipelineStage {
 public:
  LogitsStage(GptStage& stage, ModelStage& inner, const Mesh& mesh,
              std::vector<Microbatch> microbatches)
      : stage_(stage), inner_(inner), mesh_(mesh), microbatches_(std::move(microbatches)) {}

  Shape boundary_shape() const override { return inner_.boundary_shape(); }
  DType boundary_dtype() const override { return inner_.boundary_dtype(); }
  Value Forward(Tape& tape, const Value& input, int microbatch) override {
    ForwardContext context{tape, microbatches_[microbatch], kSeed, kStep, false};
    return mesh_.last_stage() ? stage_.ForwardLogits(context, input)
                              : stage_.Forward(context, input);
  }
  Tensor LossGradient(int) override {
    Throw(ErrorKind::kInternal, "LogitsStage", "logits have no gradient here");
  }

 private:
  GptStage& stage_;
  ModelStage& inner_;
  const Mesh& mesh_;
  std::vector<Microbatch> microbatches_;
};

LayerRange LayersOf(const GptConfig& config, const Mesh& mesh) {
  const LayerCosts costs = GptLayerCosts(config.layer.hidden_size, config.layer.ffn_hidden_size,
                                         config.seq_length, config.padded_vocab_size);
  return SplitLayers(static_cast<int>(config.num_layers), mesh.shape().pp,
                     costs)[mesh.coordinate().pp];
}

GptConfig ConfigFor(const ReferenceCase& reference, const TestLayout& layout) {
  GptConfig config = reference.Config(layout.vocab_multiple * layout.mesh.tp);
  config.layer.hidden_dropout = layout.dropout;
  config.layer.attention_dropout = layout.dropout;
  return config;
}

ParameterBuffers::Options BufferOptions(const TestLayout& layout) {
  ParameterBuffers::Options options;
  options.compute_dtype = layout.dtype;
  options.exact_gradients = layout.exact;
  options.bucket_bytes = 20'000;  // several buckets
  return options;
}

PipelineExecutor MakeExecutor(const TestLayout& layout, const Mesh& mesh, Device& device,
                              PipelineStage& stage, int microbatches, int64_t seq_length) {
  const Schedule schedule = MakeSchedule(layout.schedule, mesh.shape().pp, 1, microbatches);
  Tape::Options options;
  if (layout.exact) options.rows_per_sample = seq_length;
  options.keep_gelu_inputs = layout.recompute != "selective";
  return PipelineExecutor(schedule, mesh, device, stage, options);
}

}  // namespace

std::vector<float> LocalPart(const ShardSpec& shard, const std::vector<float>& global) {
  std::vector<float> local(shard.local_shape.numel(), 0.0F);
  const bool matrix = shard.global_shape.rank() == 2;
  const int64_t rows = matrix ? shard.held.extent[0] : 1;
  const int64_t columns = shard.held.extent[matrix ? 1 : 0];
  const int64_t first_row = matrix ? shard.held.offset[0] : 0;
  const int64_t first_column = shard.held.offset[matrix ? 1 : 0];
  const int64_t global_columns = shard.global_shape[matrix ? 1 : 0];
  for (int64_t row = 0; row < rows; ++row) {
    const auto from = global.begin() + (first_row + row) * global_columns + first_column;
    std::copy(from, from + columns, local.begin() + row * columns);
  }
  return local;
}

ReferenceFile::ReferenceFile(const std::string& name)
    : file_(CAIRN_SOURCE_DIR "/tests/model/data/" + name + ".safetensors") {}

const SafetensorsEntry& ReferenceFile::Entry(const std::string& tensor) const {
  const SafetensorsEntry* entry = file_.Find(tensor);
  if (entry == nullptr) Throw(ErrorKind::kCheckpoint, tensor, "the reference has no such tensor");
  return *entry;
}

double ReferenceFile::Number(const std::string& key) const {
  return std::stod(file_.header().metadata.at(key));
}

std::vector<float> ReferenceFile::ReadShard(const ShardSpec& shard,
                                            const std::string& tensor) const {
  Shape shape;
  const std::vector<float> global = Read<float>(tensor, &shape);
  if (!(shape == shard.global_shape)) {
    Throw(ErrorKind::kCheckpoint, tensor, "the reference has the shape {}, the model {}",
          shape.ToString(), shard.global_shape.ToString());
  }
  return LocalPart(shard, global);
}

ReferenceCase::ReferenceCase(const std::string& name)
    : weights(name + "_weights"),
      reference(name + "_reference"),
      samples(static_cast<int64_t>(reference.Number("samples"))),
      seq_length(static_cast<int64_t>(reference.Number("seq_length"))) {}

GptConfig ReferenceCase::Config(int64_t multiple) const {
  const auto number = [&](const char* key) { return static_cast<int64_t>(weights.Number(key)); };
  GptConfig config;
  config.num_layers = number("num_layers");
  config.seq_length = seq_length;
  config.max_position_embeddings = number("max_position_embeddings");
  config.vocab_size = number("vocab_size");
  config.padded_vocab_size = (config.vocab_size + multiple - 1) / multiple * multiple;
  config.layer.hidden_size = number("hidden_size");
  config.layer.ffn_hidden_size = number("ffn_hidden_size");
  config.layer.num_attention_heads = number("num_attention_heads");
  config.layer.num_query_groups = number("num_query_groups");
  return config;
}

void PrintTo(const TestLayout& layout, std::ostream* out) {
  *out << fmt::format(
      "{}{}{}{} {} micro batch {} {} dropout {}", layout.mesh.ToString(),
      layout.sequence_parallel ? " sequence" : "",
      layout.recompute == "none" ? "" : fmt::format(" recompute {}", layout.recompute),
      layout.exact ? " exact" : "", DTypeName(layout.dtype), layout.micro_batch_size,
      layout.schedule, layout.dropout);
}

Deviation Compare(double actual, double expected) {
  const double deviation = std::abs(actual - expected) / std::abs(expected);
  return {deviation, deviation};
}

Deviation Compare(const std::vector<float>& actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double difference_squares = 0;
  double squares = 0;
  double largest_difference = 0;
  double largest = 0;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double wanted = expected[i];
    const double difference = std::abs(actual[i] - wanted);
    difference_squares += difference * difference;
    squares += wanted * wanted;
    // NaN is no maximum of std::max.
    if (!(difference <= largest_difference)) largest_difference = difference;
    largest = std::max(largest, std::abs(wanted));
  }
  if (difference_squares == 0) return {};
  return {std::sqrt(difference_squares / squares), largest_difference / largest};
}

ModelRank::ModelRank(Communicator& world, const ReferenceCase& reference, const TestLayout& layout)
    : reference_(&reference),
      layout_(layout),
      mesh_(world, layout.mesh),
      parallel_{&mesh_, layout.sequence_parallel},
      samples_per_rank_(reference.samples / layout.mesh.dp),
      config_(ConfigFor(reference, layout)),
      registry_(parallel_),
      stage_(registry_, config_, LayersOf(config_, mesh_)),
      buffers_(registry_.list(), *device_, BufferOptions(layout)),
      model_stage_(stage_, parallel_, config_.layer.hidden_size, layout.dtype),
      reducer_(buffers_, mesh_, /*shard=*/false, /*overlap=*/true) {
  stage_.set_recompute(layout.recompute == "full");
  LoadWeights();
}

void ModelRank::LoadWeights() {
  for (const Parameter* parameter : parameters()) {
    const std::vector<float> local =
        reference_->weights.ReadShard(parameter->shard, parameter->name);
    CopyTo(parameter->weight.value,
           Tensor::FromHost<float>(local, parameter->shard.local_shape, *device_));
  }
}

std::vector<Microbatch> ModelRank::Microbatches() const {
  const auto tokens = reference_->reference.Read<int32_t>("tokens");
  const auto targets = reference_->reference.Read<int32_t>("targets");
  const int64_t count = layout_.micro_batch_size * reference_->seq_length;
  std::vector<Microbatch> microbatches;
  for (int64_t begin = 0; begin < samples_per_rank_; begin += layout_.micro_batch_size) {
    Microbatch batch;
    batch.samples = layout_.micro_batch_size;
    batch.seq_length = reference_->seq_length;
    batch.first_sample = first_sample() + begin;
    const auto part = [&](const std::vector<int32_t>& all) {
      const auto from = std::span(all).subspan(batch.first_sample * batch.seq_length, count);
      return Tensor::FromHost<int32_t>(from, {count}, *device_);
    };
    batch.tokens = part(tokens);
    batch.targets = part(targets);
    microbatches.push_back(std::move(batch));
  }
  return microbatches;
}

double ModelRank::Run() {
  std::vector<Microbatch> microbatches = Microbatches();
  const int count = static_cast<int>(microbatches.size());
  const auto tokens = static_cast<double>(reference_->samples * reference_->seq_length);
  model_stage_.Begin(std::move(microbatches), kSeed, kStep, true, layout_.loss_scale / tokens);
  reducer_.BeginStep(1 / layout_.loss_scale);
  PipelineExecutor executor =
      MakeExecutor(layout_, mesh_, *device_, model_stage_, count, config_.seq_length);
  executor.set_before_last_backward([this] { reducer_.ExpectLastMicrobatch(); });
  double sum = 0;
  for (const Tensor& losses : executor.Run()) {
    for (const float loss : losses.ToHost<float>()) sum += loss;
  }
  reducer_.Finish();
  // Every tp rank has the same losses.
  const Tensor total = Tensor::Zeros({1}, DType::kFloat64, *device_);
  Fill(total, mesh_.coordinate().tp == 0 ? sum / tokens : 0.0);
  mesh_.world().AllReduce(total, ReduceOp::kSum, device_->compute_stream());
  return total.ToHost<double>()[0];
}

std::vector<float> ModelRank::Logits() {
  std::vector<Microbatch> microbatches = Microbatches();
  const int count = static_cast<int>(microbatches.size());
  model_stage_.Begin(microbatches, kSeed, kStep, false, 0);  // for the boundary's shape
  LogitsStage logits_stage(stage_, model_stage_, mesh_, std::move(microbatches));
  PipelineExecutor executor =
      MakeExecutor(layout_, mesh_, *device_, logits_stage, count, config_.seq_length);
  std::vector<float> all;
  for (const Tensor& logits : executor.RunForwardOnly(count)) {
    const std::vector<float> part = ToFloats(logits);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::vector<float> ModelRank::Gradient(const Parameter& parameter) const {
  const MainGrad& grad = *parameter.weight.grad;
  if (!grad.exact()) {
    std::vector<float> sum = grad.sum().ToHost<float>();
    for (float& g : sum) g /= static_cast<float>(layout_.loss_scale);
    return sum;
  }
  // Exact sums were unscaled term by term.
  const std::vector<double> hi = grad.hi().ToHost<double>();
  const std::vector<double> lo = grad.lo().ToHost<double>();
  std::vector<float> sum(hi.size());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = static_cast<float>(hi[i] + lo[i]);
  return sum;
}

}  // namespace cairn::testing
