#include "runtime/ops/attention_cudnn.h"

#include <fmt/format.h>

namespace cairn {
namespace {

// The largest head whose backward pass every supported GPU has; a row must start at 16 bytes.
constexpr int64_t kMostHeadDim = 128;
constexpr int64_t kHeadDimMultiple = 8;
constexpr int kOldestCapability = 80;
// A deterministic backward pass keeps the gradient of a sample's scores, and dropout its mask, in
// two bytes each.
constexpr int64_t kMostScores = int64_t{1} << 29;

}  // namespace

CudnnAttention::CudnnAttention(const AttentionSpec& spec, DType dtype)
    : seq_length(spec.seq_length),
      head_dim(spec.head_dim),
      qkv_row((spec.heads + 2 * spec.groups) * spec.head_dim),
      out_row(spec.heads * spec.head_dim),
      batch_is_groups(spec.groups > 1 && spec.heads > spec.groups),
      deterministic(spec.deterministic),
      dropout(spec.dropout > 0),
      dtype(dtype) {
  const bool by_sample = batch_is_groups || deterministic || dropout;
  calls = by_sample ? spec.samples : 1;
  batch = batch_is_groups ? spec.groups : by_sample ? 1 : spec.samples;
  heads = batch_is_groups ? spec.heads / spec.groups : spec.heads;
  key_heads = batch_is_groups ? 1 : spec.groups;
}

AttentionView CudnnAttention::Query() const {
  // Alone in its group, a head has a key and a value behind it.
  const int64_t per_group = heads / key_heads;
  const int64_t group = (per_group + 2) * head_dim;
  return {{batch, heads, seq_length, head_dim},
          {batch_is_groups ? group : seq_length * qkv_row, per_group == 1 ? group : head_dim,
           qkv_row, 1},
          0};
}

AttentionView CudnnAttention::Key() const {
  AttentionView view = Query();
  const int64_t per_group = heads / key_heads;
  view.dims[1] = key_heads;
  view.strides[1] = (per_group + 2) * head_dim;
  view.offset = per_group * head_dim;
  return view;
}

AttentionView CudnnAttention::Value() const {
  AttentionView view = Key();
  view.offset += head_dim;
  return view;
}

AttentionView CudnnAttention::Out() const {
  return {{batch, heads, seq_length, head_dim},
          {batch_is_groups ? heads * head_dim : seq_length * out_row, head_dim, out_row, 1},
          0};
}

AttentionView CudnnAttention::Logsumexp() const {
  return {{batch, heads, seq_length, 1}, {heads * seq_length, seq_length, 1, 1}, 0};
}

AttentionView CudnnAttention::Mask() const {
  const int64_t scores = seq_length * seq_length;
  return {{batch, heads, seq_length, seq_length}, {heads * scores, scores, seq_length, 1}, 0};
}

std::string CudnnAttention::ToString() const {
  return fmt::format("{}attention of {} [{}, {} heads over {}, {}, {}]{}",
                     deterministic ? "deterministic " : "", DTypeName(dtype), batch, heads,
                     key_heads, seq_length, head_dim, dropout ? " with dropout" : "");
}

std::string WhyNotCudnn(const AttentionSpec& spec, DType dtype, int compute_capability,
                        size_t cudnn_version) {
  if (dtype != DType::kBFloat16 && dtype != DType::kFloat16) {
    return fmt::format("{} is not bf16 or fp16", DTypeName(dtype));
  }
  if (spec.head_dim % kHeadDimMultiple != 0 || spec.head_dim > kMostHeadDim) {
    return fmt::format("a head of {} is not a multiple of {} up to {}", spec.head_dim,
                       kHeadDimMultiple, kMostHeadDim);
  }
  if (spec.seq_length < 2) return "a sequence of one token has no backward pass";
  if (spec.heads * spec.seq_length * spec.seq_length >= kMostScores) {
    if (spec.deterministic) return "to be deterministic it would keep a gibibyte of scores or more";
    if (spec.dropout > 0) return "its dropout's mask would take a gibibyte or more";
  }
  if (compute_capability < kOldestCapability) {
    return fmt::format("compute capability {}.{} is below 8.0", compute_capability / 10,
                       compute_capability % 10);
  }
  if (cudnn_version < kOldestCudnn) {
    return fmt::format("cuDNN {}.{} is older than 9.10", cudnn_version / 10000,
                       cudnn_version / 100 % 100);
  }
  return "";
}

}  // namespace cairn
