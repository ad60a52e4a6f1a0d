#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "runtime/data/indexed_dataset.h"
#include "runtime/data/sample_index.h"

namespace cairn {

/// The parts a dataset is split in.
enum class DatasetSplit { kTrain, kValid, kTest };

/// "train", "valid" or "test".
const char* DatasetSplitName(DatasetSplit split);

/// The range [first, last) of `num_sequences` that `weights` (up to three numbers, such as
/// "969,30,1": train, valid, test; scaled to sum to 1) gives to `split`. Throws kConfig when
/// `weights` is malformed.
std::pair<int64_t, int64_t> SplitRange(const std::string& weights, DatasetSplit split,
                                       int64_t num_sequences);

/// What a `GptDataset` reads.
struct GptDatasetOptions {
  std::string split_weights = "969,30,1";
  DatasetSplit split = DatasetSplit::kTrain;
  /// Samples that the run will consume: epochs are repeated until there are as many. Nothing:
  /// exactly one epoch.
  std::optional<int64_t> num_samples = std::nullopt;
  int64_t seq_length = 0;
  uint32_t seed = 0;
  /// Tokens at or above it are refused as they are read.
  int64_t vocab_size = IndexedDataset::kAnyVocabulary;
};

/// Samples for a GPT: seq_length + 1 consecutive tokens each, documents packed one after the other.
///
/// The order is a pure function of (seed, num_samples, seq_length, data), never of rank or layout:
/// the i-th sample of a global batch is `consumed_samples + i`, and a rank reads those of its micro
/// batches. A run resumes by continuing to count. Thread-safe after construction.
class GptDataset {
 public:
  /// Throws kData when the split holds no tokens, or (for one epoch) less than one sample.
  GptDataset(std::shared_ptr<const IndexedDataset> data, const GptDatasetOptions& options);

  /// Samples there are: at least `num_samples`; what its epochs hold beyond may be read too.
  int64_t size() const { return static_cast<int64_t>(index_.shuffle.size()); }
  int64_t num_epochs() const { return index_.num_epochs; }
  int64_t seq_length() const { return options_.seq_length; }

  /// Fills `tokens` (seq_length + 1 of them): inputs are its first seq_length, labels its last.
  /// `sample` counts in consumption order, 0 <= sample < size().
  void Get(int64_t sample, std::span<int32_t> tokens) const;

 private:
  std::shared_ptr<const IndexedDataset> data_;
  GptDatasetOptions options_;
  SampleIndex index_;
};

}  // namespace cairn
