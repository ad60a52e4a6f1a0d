#include "runtime/checkpoint/tensor_stats.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <span>

#include "runtime/checkpoint/element.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tensor_stream.h"

namespace cairn {
namespace {

constexpr size_t kBatch = 4096;
constexpr size_t kLinearBins = 32;
constexpr int kExponents = 2048;  // of doubles; the last is that of NaNs and infinities
constexpr int kExponentBias = 1023;

// Calls `visit` with all values in order, some at a time.
void ForEachBatch(CheckpointReader& reader, const TensorEntry& tensor,
                  const std::function<void(std::span<const double>)>& visit) {
  const uint64_t element = SafetensorsDTypeBytes(tensor.dtype).value_or(1);
  std::array<double, kBatch> values;
  TensorStream stream(reader, tensor);
  for (auto piece = stream.Next(); !piece.empty(); piece = stream.Next()) {
    while (!piece.empty()) {
      const auto batch = std::span(values).first(std::min(kBatch, piece.size() / element));
      DecodeElements(tensor.dtype, piece.data(), batch);
      visit(batch);
      piece = piece.subspan(batch.size() * element);
    }
  }
}

// Values by sign and exponent, which are the first 12 bits of a double.
class Log2Counter {
 public:
  void Add(double value) { ++counts_[std::bit_cast<uint64_t>(value) >> 52]; }

  Histogram Collect() const {
    // Exponent 0 is that of zero, and of doubles below 2^-1022, which count as such here.
    int first = kExponents;
    int last = 0;
    for (int e = 1; e < kExponents - 1; ++e) {
      if (Positive(e) + Negative(e) == 0) continue;
      first = std::min(first, e);
      last = e;
    }
    const uint64_t zeros = Positive(0) + Negative(0);
    Histogram histogram;
    if (last == 0 && zeros == 0) return histogram;
    if (last == 0) first = last + 1;
    for (int e = last; e >= first; --e) {
      histogram.edges.push_back(-Edge(e + 1));
      histogram.counts.push_back(Negative(e));
    }
    histogram.edges.push_back(-Edge(first));
    histogram.counts.push_back(zeros);
    for (int e = first; e <= last; ++e) {
      histogram.edges.push_back(Edge(e));
      histogram.counts.push_back(Positive(e));
    }
    histogram.edges.push_back(Edge(std::max(last + 1, first)));
    return histogram;
  }

 private:
  uint64_t Positive(int exponent) const { return counts_[exponent]; }
  uint64_t Negative(int exponent) const { return counts_[kExponents + exponent]; }
  static double Edge(int exponent) {
    return std::min(std::ldexp(1.0, exponent - kExponentBias), std::numeric_limits<double>::max());
  }

  std::vector<uint64_t> counts_ = std::vector<uint64_t>(2 * kExponents, 0);
};

Histogram LinearHistogram(CheckpointReader& reader, const TensorEntry& tensor, double min,
                          double max) {
  // Halves, so that no difference overflows; one bin where all values are the same.
  const size_t bins = min < max ? kLinearBins : 1;
  const double half_width = (max / 2 - min / 2) / static_cast<double>(bins);
  Histogram histogram;
  for (size_t i = 0; i < bins; ++i) {
    histogram.edges.push_back(min + 2 * (half_width * static_cast<double>(i)));
  }
  histogram.edges.push_back(max);
  histogram.counts.resize(bins, 0);
  ForEachBatch(reader, tensor, [&](std::span<const double> values) {
    for (const double value : values) {
      if (!std::isfinite(value)) continue;
      const double place = half_width > 0 ? (value / 2 - min / 2) / half_width : 0;
      ++histogram.counts[std::min(static_cast<size_t>(place), bins - 1)];
    }
  });
  return histogram;
}

}  // namespace

TensorStats ComputeStats(CheckpointReader& reader, const TensorEntry& tensor,
                         HistogramScale scale) {
  TensorStats stats;
  stats.min = std::numeric_limits<double>::infinity();
  stats.max = -stats.min;
  double sum = 0;
  double squares = 0;
  Log2Counter exponents;
  ForEachBatch(reader, tensor, [&](std::span<const double> values) {
    stats.elements += values.size();
    // Sums of sums: the rounding errors of large tensors stay those of small ones.
    double batch_sum = 0;
    double batch_squares = 0;
    for (const double value : values) {
      exponents.Add(value);
      if (!std::isfinite(value)) {
        ++(std::isnan(value) ? stats.nans : stats.infinities);
        continue;
      }
      if (value == 0) ++stats.zeros;
      stats.min = std::min(stats.min, value);
      stats.max = std::max(stats.max, value);
      batch_sum += value;
      batch_squares += value * value;
    }
    sum += batch_sum;
    squares += batch_squares;
  });
  if (stats.finite() == 0) {
    stats.min = stats.max = 0;
    return stats;
  }
  const auto count = static_cast<double>(stats.finite());
  stats.mean = sum / count;
  stats.deviation = std::sqrt(std::max(squares / count - stats.mean * stats.mean, 0.0));
  stats.norm = std::sqrt(squares);
  stats.histogram = scale == HistogramScale::kLog2
                        ? exponents.Collect()
                        : LinearHistogram(reader, tensor, stats.min, stats.max);
  return stats;
}

}  // namespace cairn
