#pragma once

#include <array>
#include <cstdint>

#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"
#include "runtime/tensor/random.h"

namespace cairn {

/// Keeps an element whose word is at least `threshold`, times `scale`.
struct DropoutRule {
  uint32_t threshold;
  float scale;
};

/// y = residual + dropout(x + bias) over n elements of a row; `word(i)` is the random word of
/// element i. bias (kBias) and residual (kResidual) are read only where they exist.
template <bool kBias, bool kResidual, typename Team, typename T, typename Word>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void BiasDropoutAddRow(
    const Team& team, int64_t n, T* y, const T* x, const T* bias, const T* residual,
    DropoutRule rule, const Word& word) {
  team.zip(
      n,
      [=](int64_t i, T& y, const T& x, const T& bias, const T& residual) CAIRN_INLINE {
        float v = static_cast<float>(x);
        if constexpr (kBias) v += static_cast<float>(bias);
        v = word(i) >= rule.threshold ? v * rule.scale : 0.0f;
        if constexpr (kResidual) v += static_cast<float>(residual);
        y = T(v);
      },
      y, x, kBias ? bias : x, kResidual ? residual : x);
}

/// The random words of neighbouring elements, asked for one by one: four of them come from one
/// block. 0 where `needed` is false.
class NeighbourWords {
 public:
  CAIRN_HOST_DEVICE NeighbourWords(const RandomKey& key, uint64_t first, bool needed)
      : key_(key), first_(first), needed_(needed) {}

  /// The word of element first + i.
  CAIRN_HOST_DEVICE uint32_t operator()(int64_t i) const {
    if (!needed_) return 0;
    const uint64_t element = first_ + static_cast<uint64_t>(i);
    if (element / 4 != block_) {
      block_ = element / 4;
      words_ = Philox(key_, block_);
    }
    // Not words_[element % 4]: registers have no addresses.
    const uint32_t low = element % 2 == 0 ? words_[0] : words_[1];
    const uint32_t high = element % 2 == 0 ? words_[2] : words_[3];
    return element % 4 < 2 ? low : high;
  }

 private:
  RandomKey key_;
  uint64_t first_;
  bool needed_;
  mutable uint64_t block_ = ~uint64_t{0};  // no element's
  mutable std::array<uint32_t, 4> words_{};
};

}  // namespace cairn
