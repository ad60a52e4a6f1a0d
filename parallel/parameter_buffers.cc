#include "parallel/parameter_buffers.h"

#include <algorithm>

#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

bool SameTraits(const Bucket& bucket, const Parameter& parameter) {
  return bucket.tp_replicated == parameter.tp_replicated &&
         bucket.tp_partial_gradient == parameter.tp_partial_gradient &&
         bucket.tied_across_stages == parameter.tied_across_stages;
}

}  // namespace

ParameterBuffers::ParameterBuffers(const ParameterList& parameters, Device& device,
                                   const Options& options)
    : device_(&device), options_(options), parameters_(parameters) {
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    Parameter* parameter = *it;
    const int64_t numel = parameter->shard.local_shape.numel();
    // The last bucket of these traits, if it has room.
    auto found = std::find_if(buckets_.rbegin(), buckets_.rend(),
                              [&](const Bucket& bucket) { return SameTraits(bucket, *parameter); });
    if (found == buckets_.rend() || (found->size + numel) * 4 > options.bucket_bytes) {
      buckets_.emplace_back();
      buckets_.back().tp_replicated = parameter->tp_replicated;
      buckets_.back().tp_partial_gradient = parameter->tp_partial_gradient;
      buckets_.back().tied_across_stages = parameter->tied_across_stages;
      found = buckets_.rbegin();
    }
    found->parameters.push_back(parameter);
    found->offsets.push_back(found->size);
    found->size += numel;
  }
  for (Bucket& bucket : buckets_) AllocateBucket(bucket);
}

void ParameterBuffers::AllocateBucket(Bucket& bucket) {
  bucket.size = (bucket.size + options_.shards - 1) / options_.shards * options_.shards;
  bucket.shard_size = bucket.size / options_.shards;
  bucket.shard_begin = bucket.shard_size * options_.shard_index;
  const Shape flat{bucket.size};
  bucket.values =
      Tensor::Zeros(flat, options_.compute_dtype, *device_, MemoryCategory::kParameters);
  if (options_.trainable && options_.exact_gradients) {
    bucket.exact_hi = Tensor::Zeros(flat, DType::kFloat64, *device_, MemoryCategory::kGradients);
    bucket.exact_lo = Tensor::Zeros(flat, DType::kFloat64, *device_, MemoryCategory::kGradients);
    bucket.shard_gradient =
        Tensor::Zeros({bucket.shard_size}, DType::kFloat32, *device_, MemoryCategory::kGradients);
  } else if (options_.trainable) {
    bucket.gradient = Tensor::Zeros(flat, DType::kFloat32, *device_, MemoryCategory::kGradients);
    bucket.shard_gradient = bucket.ShardOf(bucket.gradient);
  }
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    Parameter& parameter = *bucket.parameters[i];
    const Shape& shape = parameter.shard.local_shape;
    auto piece = [&](const Tensor& buffer) {
      return buffer.Narrow(0, bucket.offsets[i], shape.numel()).View(shape);
    };
    parameter.weight.value = piece(bucket.values);
    if (!options_.trainable) continue;
    main_grads_.push_back(
        options_.exact_gradients
            ? std::make_unique<MainGrad>(piece(bucket.exact_hi), piece(bucket.exact_lo))
            : std::make_unique<MainGrad>(piece(bucket.gradient)));
    parameter.weight.grad = main_grads_.back().get();
  }
}

void ParameterBuffers::ZeroGradients(double factor) {
  for (Bucket& bucket : buckets_) {
    if (bucket.gradient.defined()) FillZero(bucket.gradient);
    if (bucket.exact_hi.defined()) {
      FillZero(bucket.exact_hi);
      FillZero(bucket.exact_lo);
    }
  }
  for (auto& main_grad : main_grads_) main_grad->set_factor(factor);
}

}  // namespace cairn
