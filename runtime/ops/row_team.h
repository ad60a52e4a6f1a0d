#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "runtime/ops/team.h"
#include "runtime/tensor/pack.h"

namespace cairn {

/// A block of a GPU as a team (team.h). `Block` says which of how many threads this is and joins
/// them: CudaBlock on a GPU. All threads make the same calls, and all get a sum's result, which is
/// a function of the row, its length and the number of threads, wherever the row is.
///
/// With kPacks > 0 rows are held in registers: each has at most kPacks packs a thread and starts,
/// as do all arrays beside it, at a multiple of 16 bytes (PacksToHold()). With 0 they are read from
/// memory each time, and may be any.
template <typename Block, int kPacks = 0>
class RowTeam {
 public:
  CAIRN_HOST_DEVICE explicit RowTeam(Block block = {}) : block_(block) {}

  template <typename F>
  CAIRN_HOST_DEVICE void for_each(int64_t n, F&& f) const {
    for (int64_t i = block_.thread(); i < n; i += block_.threads()) f(i);
  }

  CAIRN_HOST_DEVICE void barrier() const { block_.barrier(); }

  template <typename T>
  CAIRN_HOST_DEVICE auto hold([[maybe_unused]] int64_t n, const T* row) const {
    if constexpr (kPacks == 0) {
      return row;
    } else {
      HeldRow<T, kPacks> held;
      constexpr int64_t kWidth = kPackWidth<T>;
      ForShare<kWidth>(
          n,
          [&](int64_t first, int slot) { held.packs[slot] = LoadPack<kWidth>(row, first, slot); },
          [&](int64_t i) { held.rest = row[i]; });
      return held;
    }
  }

  template <typename F, typename... R>
  CAIRN_HOST_DEVICE void zip(int64_t n, const F& f, const R&... rows) const {
    if constexpr ((std::is_pointer_v<R> && ...)) {
      ZipShare(block_.thread(), block_.threads(), n, f, rows...);
    } else {
      constexpr int64_t kWidth = kPackWidth<RowElement<R>...>;
      ForShare<kWidth>(
          n, [&](int64_t first, int slot) { ZipPack<kWidth>(first, slot, f, rows...); },
          [&](int64_t i) { f(i, ElementOf(rows, i)...); });
    }
  }

  template <typename F, typename... R>
  CAIRN_HOST_DEVICE float reduce(int64_t n, const F& f, const R&... rows) const {
    return Reduce(
        n, f, 0.0f, [](float a, float b) { return a + b; }, rows...);
  }

  template <typename F, typename... R>
  CAIRN_HOST_DEVICE float reduce_max(int64_t n, const F& f, const R&... rows) const {
    return Reduce(
        n, f, -__builtin_inff(), [](float a, float b) { return a > b ? a : b; }, rows...);
  }

 private:
  // pack(first, slot) for the thread's packs of `kWidth`, rest(i) for what it has beyond them.
  template <int64_t kWidth, typename OfPack, typename OfRest>
  CAIRN_HOST_DEVICE void ForShare(int64_t n, const OfPack& pack, const OfRest& rest) const {
    const int64_t whole = n - n % kWidth;
    const int64_t thread = block_.thread();
    const int64_t threads = block_.threads();
    if constexpr (kPacks == 0) {
      for (int64_t first = thread * kWidth; first < whole; first += threads * kWidth) {
        pack(first, 0);
      }
    } else {
      CAIRN_UNROLL
      for (int slot = 0; slot < kPacks; ++slot) {
        const int64_t first = (thread + slot * threads) * kWidth;
        if (first < whole) pack(first, slot);
      }
    }
    if (whole + thread < n) rest(whole + thread);  // fewer than a warp's threads have one
  }

  template <typename F, typename Op, typename... R>
  CAIRN_HOST_DEVICE float Reduce(int64_t n, const F& f, float neutral, const Op& op,
                                 const R&... rows) const {
    constexpr int64_t kWidth = kPackWidth<RowElement<R>...>;
    float mine = neutral;
    const auto add = [&](int64_t i, const auto&... elements) {
      mine = op(mine, f(i, elements...));
    };
    ForShare<kWidth>(
        n,
        [&](int64_t first, int slot) {
          if constexpr (kPacks == 0) {
            // The order of packs, but nothing is known of where the row is.
            CAIRN_UNROLL
            for (int64_t j = 0; j < kWidth; ++j) add(first + j, ElementOf(rows, first + j)...);
          } else {
            ZipPack<kWidth>(first, slot, add, rows...);
          }
        },
        [&](int64_t i) { add(i, ElementOf(rows, i)...); });
    return block_.combine(mine, neutral, op);
  }

  Block block_;
};

}  // namespace cairn
