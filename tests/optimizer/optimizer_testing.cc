#include "tests/optimizer/optimizer_testing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "parallel/initialize.h"
#include "parallel/local_communicator.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kWeightSeed = 1;
constexpr uint64_t kGradientSeed = 1000;

// The global index of each element of a flat range of a rank's local tensor; -1 for padding.
std::vector<int64_t> GlobalIndices(const ShardSpec& shard, int64_t begin, int64_t end) {
  std::vector<int64_t> indices(end - begin, -1);
  std::vector<int64_t> starts;
  const std::vector<Rectangle> rectangles = shard.FlatRange(begin, end, &starts);
  for (size_t r = 0; r < rectangles.size(); ++r) {
    const Rectangle& box = rectangles[r];
    const bool matrix = box.extent.rank() == 2;
    const int64_t columns = box.extent[matrix ? 1 : 0];
    for (int64_t i = 0; i < box.numel(); ++i) {
      const int64_t row = matrix ? box.offset[0] + i / columns : 0;
      const int64_t column = box.offset[matrix ? 1 : 0] + i % columns;
      indices[starts[r] - begin + i] = row * shard.global_shape[matrix ? 1 : 0] + column;
    }
  }
  return indices;
}

std::vector<uint32_t> Bits(const std::vector<float>& elements) {
  std::vector<uint32_t> bits(elements.size());
  std::ranges::transform(elements, bits.begin(), std::bit_cast<uint32_t, float>);
  return bits;
}

std::vector<float> Rounded(const std::vector<float>& elements, DType dtype, Device& device) {
  const Shape flat{static_cast<int64_t>(elements.size())};
  const Tensor low = Tensor::Empty(flat, dtype, device);
  CopyTo(low, Tensor::FromHost<float>(elements, flat, device));
  const Tensor back = Tensor::Empty(flat, DType::kFloat32, device);
  CopyTo(back, low);
  return back.ToHost<float>();
}

}  // namespace

void GlobalState::Add(const StatePiece& piece) {
  const std::vector<float> local = piece.data.ToHost<float>();
  const std::vector<int64_t> indices = GlobalIndices(
      piece.parameter->shard, piece.begin, piece.begin + static_cast<int64_t>(local.size()));
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string name = piece.parameter->name + "/" + piece.kind;
  Global& global = tensors_[name];
  global.elements.resize(piece.parameter->shard.global_shape.numel());
  global.writers.resize(global.elements.size());
  for (size_t i = 0; i < local.size(); ++i) {
    if (indices[i] < 0) {
      EXPECT_EQ(local[i], 0.0F) << name << ": padding";
      continue;
    }
    if (!piece.writes) continue;
    global.elements[indices[i]] = local[i];
    EXPECT_EQ(++global.writers[indices[i]], 1) << name << " element " << indices[i];
  }
}

void GlobalState::ExpectComplete() const {
  for (const auto& [name, global] : tensors_) {
    EXPECT_EQ(std::ranges::count(global.writers, 0), 0) << name << " has unwritten elements";
  }
}

void GlobalState::ExpectEqual(const GlobalState& other) const {
  EXPECT_EQ(tensors_.size(), other.tensors_.size());
  for (const auto& [name, global] : tensors_) {
    EXPECT_EQ(Bits(global.elements), Bits(other.Of(name))) << name;
  }
}

OptimizerRank::OptimizerRank(Communicator& world, const OptimizerLayout& layout)
    : layout_(layout),
      mesh_(world, layout.mesh),
      buffers_(MakeParameters(), *device_, BufferOptions()),
      optimizer_(buffers_, mesh_, layout.adamw, layout.overlap) {
  for (const StatePiece& piece : optimizer_.State()) {
    if (piece.kind == "weight") InitializeWeights(piece, kWeightSeed);
  }
  optimizer_.PublishWeights();
}

Parameter& OptimizerRank::Add(const char* name, const ShardSpec& shard, bool decays) {
  owned_.push_back(std::make_unique<Parameter>());
  Parameter& parameter = *owned_.back();
  parameter.name = name;
  parameter.shard = shard;
  parameter.init = {InitSpec::Kind::kNormal, 1.0};
  parameter.decays = decays;
  parameter.tp_replicated =
      parameter.shard.local_shape == parameter.shard.global_shape && layout_.mesh.tp > 1;
  return parameter;
}

ParameterList OptimizerRank::MakeParameters() {
  const int tp = mesh_.shape().tp;
  const int at = mesh_.coordinate().tp;
  // Names say nothing about decay: a bias decays here, a weight does not.
  if (mesh_.first_stage() || mesh_.last_stage()) {
    Add("embedding", ShardSpec::SplitPadded({13, 6}, int64_t{16} * tp, tp, at), true)
        .tied_across_stages = mesh_.shape().pp > 1;
  }
  if (mesh_.first_stage()) {
    Add("position", ShardSpec::Replicated({5, 6}), true);
    Add("first.weight", ShardSpec::Split({8, 6}, 0, tp, at), false);
    Add("first.bias", ShardSpec::Split({8}, 0, tp, at), true);
  }
  if (mesh_.last_stage()) {
    Add("second.weight", ShardSpec::Split({6, 10}, 1, tp, at), true);
    Add("second.bias", ShardSpec::Replicated({6}), false);
    Add("norm.weight", ShardSpec::Replicated({7}), false);
  }
  ParameterList list;
  for (const auto& parameter : owned_) list.push_back(parameter.get());
  return list;
}

ParameterBuffers::Options OptimizerRank::BufferOptions() const {
  ParameterBuffers::Options options;
  options.compute_dtype = layout_.dtype;
  options.exact_gradients = layout_.exact;
  options.bucket_bytes = 300;  // several buckets, with shards that cut parameters
  if (layout_.shard) {
    options.shards = mesh_.dp().size();
    options.shard_index = mesh_.dp().rank();
  }
  return options;
}

void OptimizerRank::SetGradients(uint64_t step, double scale, double loss_scale) {
  for (Bucket& bucket : buffers_.buckets()) {
    const Tensor whole = Tensor::Zeros({bucket.size}, DType::kFloat32, *device_);
    for (size_t i = 0; i < bucket.parameters.size(); ++i) {
      const Parameter* parameter = bucket.parameters[i];
      StatePiece piece;
      piece.parameter = parameter;
      piece.data = whole.Narrow(0, bucket.offsets[i], parameter->shard.local_shape.numel());
      InitializeWeights(piece, kGradientSeed + step);
    }
    // Exact sums are unscaled term by term.
    Scale(whole, layout_.exact ? scale : scale * loss_scale);
    CopyTo(bucket.shard_gradient, bucket.ShardOf(whole));
  }
}

void OptimizerRank::SpoilGradient(float value) {
  for (Bucket& bucket : buffers_.buckets()) {
    // A replicated gradient is the same everywhere, and one that is tied counts on the first stage.
    if (bucket.tp_replicated || bucket.tied_across_stages) continue;
    Fill(bucket.shard_gradient.Narrow(0, 0, 1), value);
    return;
  }
}

std::vector<std::vector<float>> OptimizerRank::Weights() const {
  std::vector<std::vector<float>> weights;
  for (const auto& parameter : owned_) {
    const Tensor& value = parameter->weight.Current();
    const Tensor floats = Tensor::Empty(value.shape(), DType::kFloat32, *device_);
    CopyTo(floats, value);
    weights.push_back(floats.ToHost<float>());
  }
  return weights;
}

void OptimizerRank::ExpectWeights(const std::vector<std::vector<float>>& weights,
                                  const GlobalState& state) const {
  for (size_t i = 0; i < owned_.size(); ++i) {
    const auto& parameter = owned_[i];
    const auto size = static_cast<int64_t>(weights[i].size());
    const std::vector<float>& main = state.Of(parameter->name + "/weight");
    std::vector<float> expected;
    for (const int64_t index : GlobalIndices(parameter->shard, 0, size)) {
      expected.push_back(index < 0 ? 0.0F : main[index]);
    }
    EXPECT_EQ(Bits(weights[i]), Bits(Rounded(expected, layout_.dtype, *device_)))
        << parameter->name;
  }
}

std::unique_ptr<GlobalState> RunOptimizer(const OptimizerLayout& layout,
                                          const std::function<void(OptimizerRank& rank)>& body) {
  auto state = std::make_unique<GlobalState>();
  RunLocalRanks(layout.mesh.world(), [&](Communicator& world) {
    OptimizerRank rank(world, layout);
    body(rank);
    const std::vector<std::vector<float>> weights = rank.Weights();  // first: State() waits for all
    for (const StatePiece& piece : rank.optimizer().State()) state->Add(piece);
    world.Barrier();
    rank.ExpectWeights(weights, *state);
  });
  state->ExpectComplete();
  return state;
}

}  // namespace cairn::testing
