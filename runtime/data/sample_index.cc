#include "runtime/data/sample_index.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <random>

#include "runtime/base/error.h"

namespace cairn {
namespace {

constexpr int64_t kMaxEntries = std::numeric_limits<int32_t>::max();

// Fisher-Yates with rejection by mask: draws the same numbers as numpy's RandomState.shuffle.
template <typename T>
void Shuffle(std::span<T> values, std::mt19937& generator) {
  for (size_t i = values.size(); i-- > 1;) {
    const uint32_t mask = std::bit_ceil(static_cast<uint64_t>(i) + 1) - 1;
    uint32_t j = generator() & mask;
    while (j > i) j = generator() & mask;
    std::swap(values[i], values[j]);
  }
}

void AppendEpochs(int64_t first, int64_t last, int64_t epochs, std::mt19937& generator,
                  std::vector<int32_t>& order) {
  const size_t begin = order.size();
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t i = first; i < last; ++i) order.push_back(static_cast<int32_t>(i));
  }
  Shuffle(std::span(order).subspan(begin), generator);
}

// Walks the documents in their order and notes where each sample of seq_length + 1 tokens begins.
std::vector<SampleBegin> CutSamples(std::span<const int32_t> lengths,
                                    std::span<const int32_t> document_order, int64_t num_samples,
                                    int64_t seq_length) {
  std::vector<SampleBegin> begins;
  begins.reserve(num_samples + 1);
  size_t position = 0;
  int64_t offset = 0;
  begins.push_back({0, 0});
  for (int64_t sample = 0; sample < num_samples; ++sample) {
    int64_t wanted = seq_length + 1;
    for (;;) {
      const int64_t left = lengths[document_order[position]] - offset;
      if (left >= wanted) {
        offset += wanted - 1;  // the next sample begins with the last token of this one
        break;
      }
      wanted -= left;
      offset = 0;
      ++position;
      CHECK_LT(position, document_order.size());
    }
    begins.push_back({static_cast<uint32_t>(position), static_cast<int32_t>(offset)});
  }
  return begins;
}

}  // namespace

SampleIndex BuildSampleIndex(std::span<const int32_t> lengths, int64_t first, int64_t last,
                             std::optional<int64_t> num_samples, int64_t seq_length,
                             uint32_t seed) {
  CHECK(0 <= first && first <= last && last <= static_cast<int64_t>(lengths.size()));
  const int64_t sequences = last - first;
  const int64_t tokens =
      std::accumulate(lengths.begin() + first, lengths.begin() + last, int64_t{0});
  if (seq_length < 1 || seq_length >= kMaxEntries) {
    Throw(ErrorKind::kConfig, "seq_length", "{} is outside 1 to {}", seq_length, kMaxEntries - 1);
  }
  if (num_samples && (*num_samples < 0 || *num_samples > kMaxEntries)) {
    Throw(ErrorKind::kConfig, "number of samples", "{} is outside 0 to {}", *num_samples,
          kMaxEntries);
  }
  if (tokens == 0) {
    Throw(ErrorKind::kData, fmt::format("sequences {} to {}", first, last), "they hold no token");
  }

  SampleIndex index;
  index.num_epochs = 1;
  bool last_epoch_apart = false;
  int64_t samples_before_last = 0;  // of all epochs but the last
  if (num_samples) {
    const int64_t needed = *num_samples * seq_length + 1;
    index.num_epochs = std::max<int64_t>(1, (needed - 1) / tokens + 1);
    if (index.num_epochs > 1) {
      samples_before_last = ((index.num_epochs - 1) * tokens - 1) / seq_length;
      const int64_t samples_per_epoch = (tokens - 1) / seq_length;
      const int64_t from_last = *num_samples - samples_before_last;
      // The border is computed in floating point because Megatron-LM does.
      last_epoch_apart = from_last < static_cast<int64_t>(0.80 * samples_per_epoch);
    }
  }
  const int64_t total_samples = (index.num_epochs * tokens - 1) / seq_length;
  if (sequences > kMaxEntries / index.num_epochs || total_samples >= kMaxEntries) {
    Throw(ErrorKind::kData, fmt::format("sequences {} to {}", first, last),
          "{} samples of {} tokens would repeat their {} tokens {} times: an index of {} documents "
          "and "
          "{} samples, where {} of each is the most; a larger dataset or fewer samples would fit",
          num_samples.value_or(total_samples), seq_length, tokens, index.num_epochs,
          static_cast<double>(sequences) * static_cast<double>(index.num_epochs), total_samples,
          kMaxEntries);
  }

  std::mt19937 generator(seed);
  index.document_order.reserve(sequences * index.num_epochs);
  if (last_epoch_apart) {
    AppendEpochs(first, last, index.num_epochs - 1, generator, index.document_order);
    AppendEpochs(first, last, 1, generator, index.document_order);
  } else {
    AppendEpochs(first, last, index.num_epochs, generator, index.document_order);
  }
  index.begins = CutSamples(lengths, index.document_order, total_samples, seq_length);
  index.shuffle.resize(total_samples);
  std::iota(index.shuffle.begin(), index.shuffle.end(), 0U);
  const std::span<uint32_t> shuffle(index.shuffle);
  const int64_t head = last_epoch_apart ? samples_before_last : total_samples;
  Shuffle(shuffle.subspan(0, head), generator);
  if (last_epoch_apart) Shuffle(shuffle.subspan(head), generator);
  return index;
}

}  // namespace cairn
