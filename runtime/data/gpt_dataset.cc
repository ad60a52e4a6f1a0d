#include "runtime/data/gpt_dataset.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using SplitWeights = std::array<double, 3>;

SplitWeights ParseSplitWeights(const std::string& text) {
  const auto fail = [&](const char* why) {
    Throw(
        ErrorKind::kConfig, "split",
        "\"{}\" {}; a split is up to three weights for train, valid and test, such as \"969,30,1\"",
        text.substr(0, 64), why);
  };
  SplitWeights weights = {};
  const char* cursor = text.data();
  const char* const end = cursor + text.size();
  for (size_t i = 0;; ++i) {
    if (i == weights.size()) fail("has more than three weights");
    while (cursor != end && *cursor == ' ') ++cursor;
    const auto [after, status] = std::from_chars(cursor, end, weights[i]);
    if (status != std::errc() || !std::isfinite(weights[i])) fail("is not a list of numbers");
    if (weights[i] < 0) fail("has a negative weight");
    cursor = after;
    while (cursor != end && *cursor == ' ') ++cursor;
    if (cursor == end) break;
    if (*cursor++ != ',') fail("is not a list of numbers");
  }
  const double sum = weights[0] + weights[1] + weights[2];
  if (!(sum > 0) || !std::isfinite(sum)) fail("sums to no positive number");
  for (double& weight : weights) weight /= sum;
  return weights;
}

// Weights that give `split` at least one sequence, whatever the others.
std::string FittingSplit(DatasetSplit split, int64_t sequences) {
  if (sequences >= 3) return fmt::format("{},1,1", sequences - 2);
  switch (split) {
    case DatasetSplit::kTrain:
      return "1,0,0";
    case DatasetSplit::kValid:
      return sequences == 2 ? "1,1,0" : "0,1,0";
    case DatasetSplit::kTest:
      return sequences == 2 ? "1,0,1" : "0,0,1";
  }
  return "1,0,0";
}

}  // namespace

const char* DatasetSplitName(DatasetSplit split) {
  switch (split) {
    case DatasetSplit::kTrain:
      return "train";
    case DatasetSplit::kValid:
      return "valid";
    case DatasetSplit::kTest:
      return "test";
  }
  return "train";
}

std::pair<int64_t, int64_t> SplitRange(const std::string& weights, DatasetSplit split,
                                       int64_t num_sequences) {
  const SplitWeights shares = ParseSplitWeights(weights);
  const auto part = static_cast<size_t>(split);
  double begin = 0;
  for (size_t i = 0; i < part; ++i) begin += shares[i];
  const double end = begin + shares[part];
  // nearbyint rounds halves to even, as Python's round does.
  const auto bound = [&](double share) {
    return std::min(num_sequences, static_cast<int64_t>(
                                       std::nearbyint(share * static_cast<double>(num_sequences))));
  };
  return {bound(begin), bound(end)};
}

GptDataset::GptDataset(std::shared_ptr<const IndexedDataset> data, const GptDatasetOptions& options)
    : data_(std::move(data)), options_(options) {
  const auto [first, last] =
      SplitRange(options_.split_weights, options_.split, data_->num_sequences());
  const char* split = DatasetSplitName(options_.split);
  const auto lengths = data_->sequence_lengths();
  const int64_t tokens =
      std::accumulate(lengths.begin() + first, lengths.begin() + last, int64_t{0});
  if (data_->num_tokens() == 0) {
    Throw(ErrorKind::kData, data_->prefix() + ".idx", "the dataset holds no tokens");
  }
  if (first == last) {
    Throw(ErrorKind::kData, data_->prefix() + ".idx",
          "split \"{}\" leaves {} none of the {} sequences; \"{}\" would fit",
          options_.split_weights, split, data_->num_sequences(),
          FittingSplit(options_.split, data_->num_sequences()));
  }
  if (tokens == 0 || (!options_.num_samples && tokens <= options_.seq_length)) {
    Throw(
        ErrorKind::kData, data_->prefix() + ".idx",
        "the {} split \"{}\" (sequences {} to {}) holds {} tokens, a sample takes seq_length + 1 = "
        "{}; a larger share or a shorter seq_length would fit",
        split, options_.split_weights, first, last, tokens, options_.seq_length + 1);
  }
  index_ = BuildSampleIndex(lengths, first, last, options_.num_samples, options_.seq_length,
                            options_.seed);
}

void GptDataset::Get(int64_t sample, std::span<int32_t> tokens) const {
  CHECK_GE(sample, 0);
  CHECK_LT(sample, size());
  CHECK_EQ(static_cast<int64_t>(tokens.size()), options_.seq_length + 1);
  auto [position, offset] = index_.begins[index_.shuffle[sample]];
  const auto lengths = data_->sequence_lengths();
  while (!tokens.empty()) {
    const int32_t sequence = index_.document_order[position];
    const size_t part = std::min(tokens.size(), static_cast<size_t>(lengths[sequence] - offset));
    data_->ReadSequence(sequence, offset, tokens.first(part), options_.vocab_size);
    tokens = tokens.subspan(part);
    offset = 0;
    ++position;
  }
}

}  // namespace cairn
