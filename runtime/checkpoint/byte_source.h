#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace cairn {

/// The bytes of a tensor that is to be written: in memory, or made piece by piece, so that a tensor
/// need not fit into memory to pass through.
class ByteSource {
 public:
  /// Fills `out` with the bytes [begin, begin + out.size()); called with ascending `begin`.
  using Fill = std::function<void(uint64_t begin, std::span<std::byte> out)>;

  ByteSource() = default;
  /// Bytes in memory, which stay the caller's and unchanged.
  template <typename Bytes>
  requires std::convertible_to<const Bytes&, std::span<const std::byte>>
  // NOLINTNEXTLINE(google-explicit-constructor): memory is a source as it is
  ByteSource(const Bytes& bytes) : memory_(bytes), size_(memory_.size()) {}
  ByteSource(uint64_t size, Fill fill) : size_(size), fill_(std::move(fill)) {}

  uint64_t size() const { return size_; }

  /// Calls `visit` with all bytes in order, `block_bytes` at a time (the last block is shorter).
  void ForEachBlock(uint64_t block_bytes,
                    const std::function<void(std::span<const std::byte>)>& visit) const {
    std::vector<std::byte> made(fill_ ? std::min(block_bytes, size_) : 0);
    for (uint64_t begin = 0; begin < size_; begin += block_bytes) {
      const uint64_t bytes = std::min(block_bytes, size_ - begin);
      if (fill_) fill_(begin, std::span(made).first(bytes));
      visit(fill_ ? std::span<const std::byte>(made).first(bytes) : memory_.subspan(begin, bytes));
    }
  }

 private:
  std::span<const std::byte> memory_;
  uint64_t size_ = 0;
  Fill fill_;
};

}  // namespace cairn
