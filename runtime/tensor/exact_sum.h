#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "runtime/tensor/tensor.h"

namespace cairn {

// Sums whose result does not depend on the order of the additions, after Demmel and Nguyen,
// "Parallel reproducible summation" (IEEE TC 2015): each number is cut at fixed powers of two into
// pieces, and pieces of one window are integer multiples of one quantum, so that fp64 adds them
// without rounding. Sums of disjoint sets may then be added in any order, over any ranks, with a
// plain fp64 all-reduce.

/// Windows of an elementwise gradient sum, in units of an unscaled gradient: multiples of 2^-30 in
/// `hi`, of 2^-60 in `lo`. Exact for up to 2^24 terms of magnitude below 2^21 whose sum stays below
/// 2^23; bits below 2^-61 are rounded off each term, the same way wherever it is added.
inline constexpr double kExactHiQuantum = 0x1p-30;
inline constexpr double kExactLoQuantum = 0x1p-60;

/// Rounds `x` to a multiple of `quantum` (a power of two): 1.5 * 2^52 quanta push the rest out of
/// the significand.
CAIRN_HOST_DEVICE inline double RoundToQuantum(double x, double quantum) {
  const double shift = 0x1.8p52 * quantum;
  return (x + shift) - shift;
}

/// What a term adds to each window.
struct ExactParts {
  double hi;
  double lo;
};
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline ExactParts SplitExactly(float term, double factor) {
  const double x = static_cast<double>(term) * factor;
  const double upper = RoundToQuantum(x, kExactHiQuantum);
  return {upper, RoundToQuantum(x - upper, kExactLoQuantum)};
}

/// hi, lo (fp64) += factor * term (fp32, bf16 or fp16), elementwise, contiguous. `factor` is a
/// power of two (the inverse loss scale). Infinities and NaN end in a non-finite sum.
void ExactAddTo(const Tensor& hi, const Tensor& lo, const Tensor& term, double factor);

/// sum (fp32) = hi + lo, each rounded once.
void ExactToFloat(const Tensor& sum, const Tensor& hi, const Tensor& lo);

/// The same for one number of any size (norms, losses): 16 windows of 20 bits up from 2^-200, for
/// up to 2^32 terms.
class ExactScalar {
 public:
  static constexpr int kBins = 16;
  /// The pieces in window `bin` are multiples of this.
  CAIRN_HOST_DEVICE static double Quantum(int bin) {
    return std::ldexp(1.0, kTopExponent - bin * kBinBits);
  }
  /// bins[0, kBins) += x, each piece to its window.
  CAIRN_HOST_DEVICE static void AddTo(double* bins, double x) {
    for (int i = 0; i < kBins; ++i) {
      const double piece = RoundToQuantum(x, Quantum(i));
      bins[i] += piece;
      x -= piece;
    }
  }

  void Add(double x) { AddTo(bins_.data(), x); }
  /// Bins of several sums may be added elementwise.
  std::array<double, kBins>& bins() { return bins_; }
  double Value() const {
    double sum = 0;
    for (int i = kBins - 1; i >= 0; --i) sum += bins_[i];
    return sum;
  }

 private:
  static constexpr int kBinBits = 20;
  static constexpr int kTopExponent = 100;

  std::array<double, kBins> bins_{};
};

}  // namespace cairn
