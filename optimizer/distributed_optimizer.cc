#include "optimizer/distributed_optimizer.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <numeric>

#include "runtime/base/error.h"
#include "runtime/ops/reduce.h"
#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {
namespace {

// Buckets in the order in which the forward pass first needs them; the last parameter of each is
// its first in that order.
std::vector<size_t> FirstUsedFirst(ParameterBuffers& buffers) {
  std::map<const Parameter*, size_t> use;
  for (const Parameter* parameter : buffers.parameters()) use.emplace(parameter, use.size());
  std::vector<size_t> order(buffers.buckets().size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {},
                    [&](size_t b) { return use.at(buffers.buckets()[b].parameters.back()); });
  return order;
}

}  // namespace

DistributedOptimizer::DistributedOptimizer(ParameterBuffers& buffers, const Mesh& mesh,
                                           const AdamWOptions& options, bool overlap)
    : buffers_(&buffers), mesh_(&mesh), options_(options), gather_order_(FirstUsedFirst(buffers)) {
  if (overlap && sharded()) gathers_ = buffers.device().NewStream("weight-gather");
  for (Bucket& bucket : buffers.buckets()) {
    ShardState shard;
    auto zeros = [&] {
      return Tensor::Zeros({bucket.shard_size}, DType::kFloat32, buffers.device(),
                           MemoryCategory::kOptimizer);
    };
    shard.main = buffers.options().compute_dtype == DType::kFloat32 ? bucket.ShardOf(bucket.values)
                                                                    : zeros();
    shard.exp_avg = zeros();
    shard.exp_avg_sq = zeros();
    shard.segments = SegmentsOf(bucket);
    std::vector<DecayRuns::Part> parts;
    for (const Segment& segment : shard.segments) {
      parts.push_back({segment.size, segment.parameter->decays});
    }
    shard.decay_runs = DecayRuns(parts, buffers.device());
    shards_.push_back(std::move(shard));
    if (gathers_ == nullptr) continue;
    for (Parameter* parameter : bucket.parameters) {
      parameter->weight.await = [this, b = shards_.size() - 1] { Await(b); };
    }
  }
  for (size_t place = 0; place < gather_order_.size(); ++place) {
    shards_[gather_order_[place]].place = place;
  }
}

DistributedOptimizer::~DistributedOptimizer() {
  // The buckets' memory is somebody else's next. A rank that an error unwinds waits for nobody.
  if (gathers_ != nullptr && std::uncaught_exceptions() == 0) {
    try {
      gathers_->Synchronize();
    } catch (const Error& error) {
      LOG(ERROR) << error.what();
    }
  }
  for (Bucket& bucket : buffers_->buckets()) {
    for (Parameter* parameter : bucket.parameters) parameter->weight.await = nullptr;
  }
}

void DistributedOptimizer::Await(size_t bucket_index) {
  const ShardState& shard = shards_[bucket_index];
  if (shard.place < awaited_) return;
  const FlightRecorder::Wait wait(*mesh_->world().recorder());
  buffers_->device().compute_stream().Wait(shard.gathered);
  awaited_ = shard.place + 1;
}

void DistributedOptimizer::AwaitWeights() {
  if (!gather_order_.empty()) Await(gather_order_.back());
}

std::vector<DistributedOptimizer::Segment> DistributedOptimizer::SegmentsOf(const Bucket& bucket) {
  std::vector<Segment> segments;
  const int64_t shard_end = bucket.shard_begin + bucket.shard_size;
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    const int64_t start = bucket.offsets[i];
    const int64_t stop = start + bucket.parameters[i]->shard.local_shape.numel();
    const int64_t begin = std::max(start, bucket.shard_begin);
    const int64_t end = std::min(stop, shard_end);
    if (begin >= end) continue;
    segments.push_back(
        {bucket.parameters[i], begin - bucket.shard_begin, begin - start, end - begin});
  }
  return segments;
}

bool DistributedOptimizer::Counts(const Bucket& bucket) const {
  if (bucket.tp_replicated && mesh_->coordinate().tp != 0) return false;
  return !bucket.tied_across_stages || mesh_->first_stage();
}

double DistributedOptimizer::GradNorm() {
  Device& device = buffers_->device();
  const bool exact = buffers_->options().exact_gradients;
  const int64_t width = exact ? ExactScalar::kBins : 1;
  const Tensor total = Tensor::Zeros({width}, DType::kFloat64, device);
  for (const Bucket& bucket : buffers_->buckets()) {
    if (!Counts(bucket)) continue;
    if (exact) {
      AddExactSumOfSquares(total, bucket.shard_gradient);
    } else {
      AddSumOfSquares(total, bucket.shard_gradient);
    }
  }
  // Without sharding every dp rank holds the whole sum already.
  Communicator& group = sharded() ? mesh_->world() : mesh_->model();
  if (group.size() > 1) group.AllReduce(total, ReduceOp::kSum, device.compute_stream());
  if (total.on_meta()) return 0;
  const std::vector<double> sums = total.ToHost<double>();
  double sum = 0;
  for (auto it = sums.rbegin(); it != sums.rend(); ++it) sum += *it;  // smallest window first
  return std::sqrt(sum);
}

StepResult DistributedOptimizer::Step(double learning_rate, double loss_scale, bool update) {
  StepResult result;
  // Exact sums were unscaled term by term.
  const double unscale = buffers_->options().exact_gradients ? 1.0 : 1.0 / loss_scale;
  result.grad_norm = GradNorm() * unscale;
  result.skipped = !update || !std::isfinite(result.grad_norm);
  if (result.skipped) return result;

  AwaitWeights();
  ++steps_;
  double factor = unscale;
  if (options_.clip_grad > 0) {
    factor *= std::min(1.0, options_.clip_grad / (result.grad_norm + 1e-6));
  }
  AdamWStep step;
  step.lr = static_cast<float>(learning_rate);
  step.beta1 = static_cast<float>(options_.beta1);
  step.beta2 = static_cast<float>(options_.beta2);
  step.epsilon = static_cast<float>(options_.epsilon);
  step.bias_correction1 =
      static_cast<float>(1.0 - std::pow(options_.beta1, static_cast<double>(steps_)));
  step.bias_correction2 =
      static_cast<float>(1.0 - std::pow(options_.beta2, static_cast<double>(steps_)));
  step.gradient_factor = static_cast<float>(factor);
  step.weight_decay = static_cast<float>(options_.weight_decay);
  for (size_t b = 0; b < shards_.size(); ++b) {
    const ShardState& shard = shards_[b];
    AdamW(shard.main, shard.exp_avg, shard.exp_avg_sq, buffers_->buckets()[b].shard_gradient,
          shard.decay_runs, step);
  }
  PublishWeights();
  return result;
}

void DistributedOptimizer::PublishWeights() {
  Stream& compute = buffers_->device().compute_stream();
  const auto shard = [this](size_t b) {
    Bucket& bucket = buffers_->buckets()[b];
    return bucket.ShardOf(bucket.values);
  };
  for (size_t b = 0; b < shards_.size(); ++b) {
    if (shard(b).dtype() != DType::kFloat32) CopyTo(shard(b), shards_[b].main);
  }
  if (!sharded()) return;
  if (gathers_ != nullptr) gathers_->Wait(compute.Record());
  for (const size_t b : gather_order_) {
    Stream& stream = gathers_ != nullptr ? *gathers_ : compute;
    mesh_->dp().AllGather(buffers_->buckets()[b].values, shard(b), stream);
    if (gathers_ != nullptr) shards_[b].gathered = gathers_->Record();
  }
  awaited_ = 0;
}

std::vector<StatePiece> DistributedOptimizer::State() {
  AwaitWeights();
  std::vector<StatePiece> pieces;
  const bool holds_alone = sharded() || mesh_->coordinate().dp == 0;
  for (size_t b = 0; b < shards_.size(); ++b) {
    const bool writes = holds_alone && Counts(buffers_->buckets()[b]);
    for (const Segment& segment : shards_[b].segments) {
      auto piece = [&](const char* kind, const Tensor& flat) {
        pieces.push_back({segment.parameter, kind,
                          flat.Narrow(0, segment.shard_offset, segment.size),
                          segment.parameter_begin, writes});
      };
      piece("weight", shards_[b].main);
      piece("exp_avg", shards_[b].exp_avg);
      piece("exp_avg_sq", shards_[b].exp_avg_sq);
    }
  }
  return pieces;
}

}  // namespace cairn
