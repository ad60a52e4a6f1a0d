#include "runtime/ops/attention_kernel.h"

#include <algorithm>

namespace cairn {
namespace {

// A block of any GPU since 2020 may have 160 KiB of shared memory; two such blocks fit beside each
// other on the larger ones.
constexpr int64_t kScratchFloats = 108 * 1024 / 4;
constexpr int64_t kLargestTile = 32;

}  // namespace

AttentionGeometry::AttentionGeometry(const AttentionSpec& spec)
    : seq_length(spec.seq_length),
      head_dim(spec.head_dim),
      heads(spec.heads),
      heads_per_group(spec.heads / spec.groups),
      row_stride((spec.heads + 2 * spec.groups) * spec.head_dim),
      tile(kLargestTile),
      scale(static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)))),
      rule{DropThreshold(spec.dropout), static_cast<float>(1.0 / (1.0 - spec.dropout))},
      key(spec.key),
      first_plane(spec.first_sample * spec.total_heads + spec.first_head),
      total_heads(spec.total_heads) {
  while (tile > 1 && std::max(AttentionForwardScratch(*this), AttentionBackwardScratch(*this)) >
                         kScratchFloats) {
    tile /= 2;
  }
}

}  // namespace cairn
