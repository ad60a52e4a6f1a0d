#include "runtime/tensor/launch_shape.h"

#include <algorithm>

#include "runtime/tensor/pack.h"

namespace cairn {
namespace {

constexpr int64_t kElementThreads = 256;
constexpr int64_t kElementsPerThread = 8;

// Of sums down columns: 16 and 64 rows a lane, and four blocks for each processor of a large GPU.
constexpr int64_t kLeastSliceRows = 16 * kRowLanes;
constexpr int64_t kMostSliceRows = 64 * kRowLanes;
constexpr int64_t kColumnSumBlocks = 512;

uint32_t Blocks(int64_t wanted) {
  return static_cast<uint32_t>(std::min<int64_t>(wanted, kMaxBlocks));
}

int64_t Tiles(int64_t columns, int64_t width) {
  const int64_t tile = kTilePacks * width;
  return (columns + tile - 1) / tile;
}

ColumnSumLaunch Sliced(int64_t rows, int64_t tiles, int64_t slices) {
  // Whole rounds of the lanes, so that no slice but the last leaves a lane idle.
  const int64_t rounds = (rows + slices * kRowLanes - 1) / (slices * kRowLanes);
  const int64_t slice_rows = std::max<int64_t>(1, rounds) * kRowLanes;
  const int64_t used = std::max<int64_t>(1, (rows + slice_rows - 1) / slice_rows);
  return {{Blocks(tiles * used), kTilePacks * kRowLanes}, used, slice_rows};
}

}  // namespace

LaunchShape ElementLaunch(int64_t n) {
  return {Blocks((n + kElementThreads - 1) / kElementThreads), kElementThreads};
}

LaunchShape PackLaunch(int64_t n) {
  return ElementLaunch((n + kElementsPerThread - 1) / kElementsPerThread);
}

LaunchShape RowLaunch(int64_t rows, int64_t n) {
  const int64_t threads = (n + kElementsPerThread - 1) / kElementsPerThread;
  const int64_t warps = std::max<int64_t>(1, (threads + kWarpThreads - 1) / kWarpThreads);
  return {Blocks(rows),
          static_cast<uint32_t>(std::min<int64_t>(warps * kWarpThreads, kMaxBlockThreads))};
}

int64_t PacksToHold(const LaunchShape& shape, int64_t n, int64_t element_bytes,
                    uintptr_t addresses) {
  if (addresses % kPackBytes != 0) return 0;
  const int64_t packs = n * element_bytes / kPackBytes;
  return std::max<int64_t>(1, (packs + shape.threads - 1) / shape.threads);
}

ColumnSumLaunch MakeColumnSumLaunch(int64_t rows, int64_t columns, int64_t width) {
  const int64_t tiles = Tiles(columns, width);
  if (tiles == 0) return {};
  const auto slices_of = [&](int64_t slice_rows) { return (rows + slice_rows - 1) / slice_rows; };
  const int64_t to_fill = (kColumnSumBlocks + tiles - 1) / tiles;
  const int64_t wanted =
      std::max(slices_of(kMostSliceRows), std::min(to_fill, slices_of(kLeastSliceRows)));
  return Sliced(rows, tiles, std::max<int64_t>(1, wanted));
}

ColumnSumLaunch MakeWholeColumnSumLaunch(int64_t rows, int64_t columns, int64_t width) {
  return Sliced(rows, Tiles(columns, width), 1);
}

}  // namespace cairn
