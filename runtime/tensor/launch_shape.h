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

/// Sums down the rows of a matrix of `columns` columns: a block takes kColumnsPerBlock columns, and
/// each of its kRowLanes warps every kRowLanes-th row.
inline constexpr uint32_t kColumnsPerBlock = 32;
inline constexpr uint32_t kRowLanes = 16;
LaunchShape ColumnLaunch(int64_t columns);

}  // namespace cairn
