#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"

namespace cairn {

/// Reads a tensor from its first element to its last in row-major order, whatever rectangles hold
/// it, in at most 64 MiB of memory whatever its size.
class TensorStream {
 public:
  /// `tensor` is one of the reader's; both outlive the stream.
  TensorStream(CheckpointReader& reader, const TensorEntry& tensor);
  /// The same, in pieces of at most `piece_bytes`, but of one element at least.
  TensorStream(CheckpointReader& reader, const TensorEntry& tensor, uint64_t piece_bytes);

  /// The bytes of the next elements, valid until the next call; none at the end.
  std::span<const std::byte> Next();

 private:
  CheckpointReader& reader_;
  const TensorEntry& tensor_;
  // A piece is a rectangle: one index of each dimension before `cut_`, up to `step_` indices of
  // that one, all of those behind it.
  size_t cut_ = 0;
  int64_t step_ = 1;
  uint64_t step_bytes_ = 0;  // of one index of dimension `cut_`
  bool at_end_ = false;
  std::vector<int64_t> offset_;
  std::vector<int64_t> extent_;
  std::vector<std::byte> buffer_;
};

}  // namespace cairn
