#pragma once

#include <cstdint>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"

namespace cairn {

enum class HistogramScale {
  kLog2,    ///< one bin for each power of two on both sides of zero: needs no second look
  kLinear,  ///< bins of one width from the least value to the largest: reads the tensor twice
};

/// How often finite values fall between two neighbouring edges: bin i counts those of at least
/// edges[i] and below edges[i + 1]. With kLog2 the bin around zero holds the zeros alone, and the
/// negative bins mirror the positive ones: they count those above edges[i] and of at most
/// edges[i + 1]. With kLinear the last bin includes its upper edge. Empty without finite values.
struct Histogram {
  std::vector<double> edges;
  std::vector<uint64_t> counts;  ///< one less than edges
};

/// What the numbers of a tensor are like. NaNs and infinities are counted, and left out of the
/// rest; without any finite number that rest is 0.
struct TensorStats {
  uint64_t elements = 0;
  uint64_t nans = 0;
  uint64_t infinities = 0;
  uint64_t zeros = 0;
  double min = 0;
  double max = 0;
  double mean = 0;
  double deviation = 0;  ///< standard, of the whole, not of a sample
  double norm = 0;       ///< L2
  Histogram histogram;

  uint64_t finite() const { return elements - nans - infinities; }
};

/// Reads a tensor whose dtype IsNumber, in bounded memory; sums are in double precision.
TensorStats ComputeStats(CheckpointReader& reader, const TensorEntry& tensor, HistogramScale scale);

}  // namespace cairn
