#include "parallel/grad_reducer.h"

#include <glog/logging.h>

#include "runtime/tensor/exact_sum.h"

namespace cairn {
namespace {

// Gradients of these buckets are summed over other axes first, when the backward pass has ended.
bool NeedsModelReduction(const Bucket& bucket) {
  return bucket.tp_partial_gradient || bucket.tied_across_stages;
}

template <typename F>
void ForEachGradientBuffer(Bucket& bucket, F&& f) {
  if (bucket.exact_hi.defined()) {
    f(bucket.exact_hi);
    f(bucket.exact_lo);
  } else {
    f(bucket.gradient);
  }
}

}  // namespace

GradReducer::GradReducer(ParameterBuffers& buffers, const Mesh& mesh, bool shard, bool overlap)
    : buffers_(&buffers), mesh_(&mesh), shard_(shard), overlap_(overlap && mesh.dp().size() > 1) {
  if (mesh.dp().size() > 1) stream_ = buffers.device().NewStream("grad-reduce");
  missing_.resize(buffers.buckets().size());
  launched_.resize(buffers.buckets().size());
  for (size_t b = 0; b < buffers.buckets().size(); ++b) {
    for (Parameter* parameter : buffers.buckets()[b].parameters) {
      parameter->weight.grad->set_on_complete([this, b] { OnParameterComplete(b); });
    }
  }
}

GradReducer::~GradReducer() {
  for (Bucket& bucket : buffers_->buckets()) {
    for (Parameter* parameter : bucket.parameters) parameter->weight.grad->set_on_complete(nullptr);
  }
}

void GradReducer::BeginStep(double gradient_factor) {
  buffers_->ZeroGradients(gradient_factor);
  armed_ = false;
  for (size_t b = 0; b < missing_.size(); ++b) {
    missing_[b] = buffers_->buckets()[b].parameters.size();
    launched_[b] = false;
  }
}

void GradReducer::OnParameterComplete(size_t bucket_index) {
  if (!armed_ || !overlap_) return;
  CHECK_GT(missing_[bucket_index], 0u);
  if (--missing_[bucket_index] > 0) return;
  if (!NeedsModelReduction(buffers_->buckets()[bucket_index])) LaunchDataParallel(bucket_index);
}

void GradReducer::ReduceOverModel(Bucket& bucket) {
  Stream& stream = buffers_->device().compute_stream();
  ForEachGradientBuffer(bucket, [&](const Tensor& buffer) {
    if (bucket.tp_partial_gradient && mesh_->tp().size() > 1) {
      mesh_->tp().AllReduce(buffer, ReduceOp::kSum, stream);
    }
    if (bucket.tied_across_stages && mesh_->embedding() != nullptr) {
      mesh_->embedding()->AllReduce(buffer, ReduceOp::kSum, stream);
    }
  });
}

void GradReducer::LaunchDataParallel(size_t bucket_index) {
  Bucket& bucket = buffers_->buckets()[bucket_index];
  launched_[bucket_index] = true;
  if (stream_ == nullptr) return;
  stream_->Wait(buffers_->device().compute_stream().Record());
  ForEachGradientBuffer(bucket, [&](const Tensor& buffer) {
    if (shard_) {
      mesh_->dp().ReduceScatter(bucket.ShardOf(buffer), buffer, *stream_);
    } else {
      mesh_->dp().AllReduce(buffer, ReduceOp::kSum, *stream_);
    }
  });
}

void GradReducer::Finish() {
  for (size_t b = 0; b < launched_.size(); ++b) {
    if (launched_[b]) continue;
    if (NeedsModelReduction(buffers_->buckets()[b])) ReduceOverModel(buffers_->buckets()[b]);
    LaunchDataParallel(b);
  }
  if (stream_ != nullptr) {
    const FlightRecorder::Wait wait(*mesh_->world().recorder());
    buffers_->device().compute_stream().Wait(stream_->Record());
  }
  for (Bucket& bucket : buffers_->buckets()) {
    if (!bucket.exact_hi.defined()) continue;
    ExactToFloat(bucket.shard_gradient, bucket.ShardOf(bucket.exact_hi),
                 bucket.ShardOf(bucket.exact_lo));
  }
}

}  // namespace cairn
