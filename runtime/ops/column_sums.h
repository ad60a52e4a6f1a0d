#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "runtime/ops/team.h"
#include "runtime/tensor/exact_sum.h"
#include "runtime/tensor/launch_shape.h"
#include "runtime/tensor/pack.h"

namespace cairn {

/// A gradient sum of n elements: `sum`, or the windows `hi` and `lo` of an exact one. With several
/// slices (ColumnSumLaunch) `sum` is [slices, n] and set, not added to.
struct ColumnSums {
  float* sum;
  double* hi;
  double* lo;
  double factor;
};

/// What a thread sums up to: fp64 where sums are exact.
template <bool kExact>
using ColumnPart = std::conditional_t<kExact, double, float>;

/// Elements of the memory that a block shares, for arrays of these types.
template <typename... T>
inline constexpr int64_t kColumnTile = kTilePacks* kPackWidth<T...>;
template <typename... T>
inline constexpr int64_t kColumnLanes = kRowLanes* kColumnTile<T...>;

/// Adds f(row, p[row, column]...) of the rows of one slice to the sums of one tile of columns, by a
/// block (RowTeam) of kTilePacks * kRowLanes threads; `index` counts the tiles of a slice first.
/// Arrays are [rows, n]. The order of additions depends on the shape alone.
template <bool kExact, typename Block, typename F, typename... T>
CAIRN_HOST_DEVICE void SumColumnTile(const Block& block, ColumnPart<kExact>* shared,
                                     const ColumnSums& out, int64_t index,
                                     const ColumnSumLaunch& launch, int64_t rows, int64_t n,
                                     const F& f, const T*... p) {
  constexpr int64_t kWidth = kPackWidth<T...>;
  constexpr int64_t kTile = kColumnTile<T...>;
  using Part = ColumnPart<kExact>;
  const int64_t tiles = (n + kTile - 1) / kTile;
  const int64_t slice = index / tiles;
  const int64_t tile_begin = index % tiles * kTile;
  const int64_t lane = block.thread() / kTilePacks;
  const int64_t place = block.thread() % kTilePacks * kWidth;
  const int64_t first = tile_begin + place;
  const int64_t here = std::min(kWidth, n - first);  // none where the last tile is not full
  const bool packed = n % kWidth == 0 && (reinterpret_cast<uintptr_t>(p) | ...) % kPackBytes == 0;

  Part high[kWidth] = {};
  Part low[kWidth] = {};
  const int64_t end = std::min(rows, (slice + 1) * launch.slice_rows);
  for (int64_t row = slice * launch.slice_rows + lane; here > 0 && row < end; row += kRowLanes) {
    const auto add = [&](int64_t j, const auto&... elements) {
      if constexpr (kExact) {
        const ExactParts parts = SplitExactly(f(row, elements...), out.factor);
        high[j] += parts.hi;
        low[j] += parts.lo;
      } else {
        high[j] += f(row, elements...);
      }
    };
    if (packed) {
      ZipPack<kWidth>(0, 0, add, (p + row * n + first)...);
    } else {
      CAIRN_UNROLL
      for (int64_t j = 0; j < kWidth; ++j) {
        if (j < here) add(j, p[row * n + first + j]...);
      }
    }
  }

  const auto join_lanes = [&](const auto& mine, const auto& deliver) {
    CAIRN_UNROLL
    for (int64_t j = 0; j < kWidth; ++j) shared[lane * kTile + place + j] = mine[j];
    block.barrier();
    for (int64_t c = block.thread(); c < kTile && tile_begin + c < n; c += block.threads()) {
      Part total = 0;
      for (int64_t l = 0; l < kRowLanes; ++l) total += shared[l * kTile + c];
      deliver(tile_begin + c, total);
    }
    block.barrier();  // the memory is written again
  };
  if constexpr (kExact) {
    // Sums within a window are exact: slices may come in any order.
    join_lanes(high, [&](int64_t c, double total) { block.atomic_add(out.hi + c, total); });
    join_lanes(low, [&](int64_t c, double total) { block.atomic_add(out.lo + c, total); });
  } else if (launch.slices == 1) {
    join_lanes(high, [&](int64_t c, float total) { out.sum[c] += total; });
  } else {
    join_lanes(high, [&](int64_t c, float total) { out.sum[slice * n + c] = total; });
  }
}

}  // namespace cairn
