#include "runtime/tensor/launch_shape.h"

#include <algorithm>

namespace cairn {
namespace {

constexpr int64_t kElementThreads = 256;
constexpr int64_t kElementsPerThread = 8;

uint32_t Blocks(int64_t wanted) {
  return static_cast<uint32_t>(std::min<int64_t>(wanted, kMaxBlocks));
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

LaunchShape ColumnLaunch(int64_t columns) {
  return {Blocks((columns + kColumnsPerBlock - 1) / kColumnsPerBlock),
          kColumnsPerBlock * kRowLanes};
}

}  // namespace cairn
