#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

#include "runtime/ops/attention.h"
#include "runtime/tensor/dtype.h"

// What is asked of cuDNN's fused attention, in plain numbers.
namespace cairn {

/// A [batch, heads, seq, head_dim] tensor inside a larger one, in elements.
struct AttentionView {
  std::array<int64_t, 4> dims;
  std::array<int64_t, 4> strides;
  int64_t offset;
};

/// An attention as cuDNN is called for it, `calls` times with one plan. cuDNN knows one stride from
/// head to head: where groups of several query heads lie between their keys and values, a call is a
/// sample, and its batch the groups. A sample is a call also where the spec is deterministic: what
/// is chosen for a shape then never depends on the microbatch; and with dropout, whose mask of one
/// sample is in memory at a time.
struct CudnnAttention {
  CudnnAttention(const AttentionSpec& spec, DType dtype);
  auto operator<=>(const CudnnAttention&) const = default;

  /// Views of one call in the packed qkv and dqkv; all calls of one plan share them.
  AttentionView Query() const;
  AttentionView Key() const;
  AttentionView Value() const;
  AttentionView Out() const;        ///< in out and dout
  AttentionView Logsumexp() const;  ///< its head_dim is 1
  AttentionView Mask() const;       ///< [batch, heads, seq, seq]
  /// From one call's first element to the next's.
  int64_t QkvStep() const { return seq_length * qkv_row; }
  int64_t OutStep() const { return seq_length * out_row; }
  int64_t LogsumexpStep() const { return seq_length * out_row / head_dim; }
  std::string ToString() const;

  int64_t calls;
  int64_t batch;
  int64_t heads;      ///< of one entry of the batch
  int64_t key_heads;  ///< likewise: 1, or as many as heads
  int64_t seq_length;
  int64_t head_dim;
  int64_t qkv_row;  ///< elements from a token to the next
  int64_t out_row;
  bool batch_is_groups;
  bool deterministic;
  bool dropout;
  DType dtype;
};

/// The oldest cuDNN that is used, as cudnnGetVersion tells versions: plans are made for described
/// GPUs since 9.8, and -inf as the score of a hidden key is right since 9.10.
constexpr size_t kOldestCudnn = 91000;

/// Empty, or why cuDNN is not asked for this attention: its dtype or sizes, or the GPU's compute
/// capability (10 * major + minor).
std::string WhyNotCudnn(const AttentionSpec& spec, DType dtype, int compute_capability,
                        size_t cudnn_version);

}  // namespace cairn
