#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "parallel/communicator.h"

namespace cairn {

/// Collectives of ranks that share memory. What a rank brings goes through its part of that memory
/// chunk by chunk, small enough to stay in the caches; each rank reduces one slice of all parts.
/// Sums are those of ReduceInOrder, as in every backend.
///
/// Chunks alternate between two halves of a part, so that one meeting a chunk suffices: who meets
/// for a chunk has read all that was in the half that the next one overwrites.
class SharedCollectives {
 public:
  /// Bytes of memory that `size` ranks need.
  static size_t MemoryBytes(int size);

  /// `memory`: the same for all ranks, MemoryBytes(size) of it, zero before the first of them
  /// comes, aligned to a page. `recorder` counts the time in which this rank waits for others.
  /// While it does, it calls `progress` again and again: a message that it sent may need this
  /// process to get on, and who waits for that message may be whom all wait for here.
  SharedCollectives(std::byte* memory, int rank, int size, FlightRecorder& recorder,
                    std::function<void()> progress);

  /// data[i] = the reduction of every rank's data[i].
  void AllReduce(std::byte* data, int64_t count, DType dtype, ReduceOp op);
  /// out[i] = the sum of every rank's in[rank * count + i]; `out` may be that part of `in`.
  void ReduceScatter(std::byte* out, const std::byte* in, int64_t count, DType dtype);
  /// out = every rank's `bytes` of `in`, one after the other; `in` may be its place in `out`.
  void AllGather(std::byte* out, const std::byte* in, size_t bytes);

 private:
  struct Meeting;

  /// The half of a rank's part that the current chunk goes through.
  std::byte* Part(int rank) const;
  /// Waits until every rank came here, and sees what they wrote before.
  void Meet();

  Meeting* meeting_;
  std::byte* parts_;
  int rank_;
  int size_;
  FlightRecorder& recorder_;
  std::function<void()> progress_;
  uint64_t chunk_ = 0;
};

}  // namespace cairn
