#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace cairn {

/// Where a sample begins: token `offset` of the sequence at `position` in the document order.
struct SampleBegin {
  uint32_t position;
  int32_t offset;
};

/// The order in which a corpus is cut into samples of seq_length + 1 tokens (neighbours share one)
/// and the order in which the samples are read; the same as Megatron-LM builds from the same seed.
struct SampleIndex {
  int64_t num_epochs = 0;               ///< times that the sequences are repeated
  std::vector<int32_t> document_order;  ///< sequence ids, shuffled, `num_epochs` times each
  std::vector<SampleBegin> begins;      ///< of samples 0..N-1, then the end of the last
  std::vector<uint32_t> shuffle;        ///< N entries: the i-th sample read is `shuffle[i]`
};

/// Builds the index over sequences [first, last) of `lengths` (tokens each).
/// `num_samples`: at least that many samples, by repeating the sequences over whole epochs;
/// nothing: one epoch. The last epoch is shuffled apart if less than 80% of it is needed. A pure
/// function: a rank that calls it with the same arguments gets the same order. Throws kData when
/// the sequences hold no token, or when the index would exceed 2^31 entries.
SampleIndex BuildSampleIndex(std::span<const int32_t> lengths, int64_t first, int64_t last,
                             std::optional<int64_t> num_samples, int64_t seq_length, uint32_t seed);

}  // namespace cairn
