#include "runtime/checkpoint/tensor_stream.h"

#include <algorithm>
#include <bit>

#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxPieceBytes = uint64_t{64} << 20;

// Each piece reads anew the checksummed blocks that it shares with its neighbours, up to two of
// each chunk that it meets: the more chunks may lie side by side, the larger it had better be.
uint64_t PieceBytes(const TensorEntry& tensor) {
  return std::min<uint64_t>(tensor.chunks.size() * 4 * kCrcBlockBytes, kMaxPieceBytes);
}

}  // namespace

TensorStream::TensorStream(CheckpointReader& reader, const TensorEntry& tensor)
    : TensorStream(reader, tensor, PieceBytes(tensor)) {}

TensorStream::TensorStream(CheckpointReader& reader, const TensorEntry& tensor,
                           uint64_t piece_bytes)
    : reader_(reader),
      tensor_(tensor),
      step_bytes_(SafetensorsDTypeBytes(tensor.dtype).value_or(1)),
      at_end_(CheckedElements(tensor.shape) == uint64_t{0}),
      offset_(tensor.shape.size(), 0),
      extent_(tensor.shape) {
  if (at_end_ || tensor.shape.empty()) return;
  // The outermost dimension of which a piece can have whole rows, and how many.
  cut_ = tensor.shape.size() - 1;
  while (cut_ > 0 && static_cast<uint64_t>(tensor.shape[cut_]) <= piece_bytes / step_bytes_) {
    step_bytes_ *= static_cast<uint64_t>(tensor.shape[cut_--]);
  }
  const uint64_t fitting = std::max<uint64_t>(piece_bytes / step_bytes_, 1);
  // A power of two: chunks' rows mostly have such factors, and then pieces end where blocks do.
  step_ = std::min(static_cast<int64_t>(std::bit_floor(fitting)), tensor.shape[cut_]);
  std::fill_n(extent_.begin(), cut_, 1);
}

std::span<const std::byte> TensorStream::Next() {
  if (at_end_) return {};
  uint64_t bytes = step_bytes_;
  if (!extent_.empty()) {
    extent_[cut_] = std::min(step_, tensor_.shape[cut_] - offset_[cut_]);
    bytes *= static_cast<uint64_t>(extent_[cut_]);
  }
  if (buffer_.size() < bytes) buffer_.resize(bytes);
  const auto piece = std::span(buffer_).first(bytes);
  reader_.Read(tensor_.name, tensor_.kind, offset_, extent_, piece);

  // To the next rectangle, as an odometer counts.
  at_end_ = true;
  for (size_t d = offset_.empty() ? 0 : cut_ + 1; d > 0 && at_end_; --d) {
    int64_t& place = offset_[d - 1];
    place += extent_[d - 1];
    at_end_ = place == tensor_.shape[d - 1];
    if (at_end_) place = 0;
  }
  return piece;
}

}  // namespace cairn
