#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn {

/// How a kernel is launched: plain numbers, computed by plain functions that any machine can test.
struct LaunchShape {
  uint32_t blocks = 0;  ///< 0: nothing is to be done
  uint32_t threads = 0;
  size_t shared_bytes = 0;  ///< of a block, beyond what the kernel declares itself
};

inline constexpr uint32_t kWarpThreads = 32;
inline constexpr uint32_t kMaxBlockThreads = 1024;
/// Most blocks of a launch: enough to fill any GPU many times over. Kernels take what is beyond in
/// turns, so that no size is too large for them.
inline constexpr uint32_t kMaxBlocks = 65536;

/// One thread for each of n elements, up to kMaxBlocks.
LaunchShape ElementLaunch(int64_t n);

/// The same for kernels that take packs (pack.h): one thread for every eight elements.
LaunchShape PackLaunch(int64_t n);

/// One block for each of `rows` rows of n elements: a thread for every eight elements, in whole
/// warps.
LaunchShape RowLaunch(int64_t rows, int64_t n);

/// Packs (pack.h) that a thread of RowLaunch's blocks holds of a row of n elements of
/// `element_bytes`; 0 where rows cannot be taken by packs. `addresses`: where the arrays start, and
/// the bytes from one row to the next, or-ed.
int64_t PacksToHold(const LaunchShape& shape, int64_t n, int64_t element_bytes,
                    uintptr_t addresses);

/// Sums down the columns of a matrix. A block takes a tile of kTilePacks packs side by side, and
/// its kRowLanes lanes of as many threads every kRowLanes-th row of one of `slices` slices of rows.
inline constexpr uint32_t kTilePacks = 32;
inline constexpr uint32_t kRowLanes = 16;
struct ColumnSumLaunch {
  LaunchShape shape;  ///< a block for each tile of each slice; those of a slice follow each other
  int64_t slices = 0;
  int64_t slice_rows = 0;  ///< of all slices but the last
};

/// For `rows` rows of `columns` elements in packs of `width`: enough blocks for a large GPU, and no
/// more rows a thread than an fp32 sum bears. A function of the three alone.
ColumnSumLaunch MakeColumnSumLaunch(int64_t rows, int64_t columns, int64_t width);

/// The same in one slice, so that the sum is complete.
ColumnSumLaunch MakeWholeColumnSumLaunch(int64_t rows, int64_t columns, int64_t width);

}  // namespace cairn
