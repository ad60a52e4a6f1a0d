#pragma once

#include <cstdint>

#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"
#include "runtime/tensor/pack.h"

namespace cairn {

/// All threads of a launch, for what is elementwise. No reductions.
class GridTeam {
 public:
  template <typename F>
  CAIRN_HOST_DEVICE void for_each([[maybe_unused]] int64_t n, [[maybe_unused]] F&& f) const {
#if defined(__CUDA_ARCH__)
    const int64_t stride = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += stride) f(i);
#endif
  }

  template <typename F, typename... P>
  CAIRN_HOST_DEVICE void zip([[maybe_unused]] int64_t n, [[maybe_unused]] const F& f,
                             [[maybe_unused]] P*... p) const {
#if defined(__CUDA_ARCH__)
    ZipShare(int64_t{blockIdx.x} * blockDim.x + threadIdx.x, int64_t{gridDim.x} * blockDim.x, n, f,
             p...);
#endif
  }
};

/// One block. Its threads take neighbouring elements; a sum runs over each thread's elements in
/// order, then over a butterfly within each warp, then over the warps in order. All threads of the
/// block make the same calls, and all get the result.
class BlockTeam {
 public:
  template <typename F>
  CAIRN_HOST_DEVICE void for_each([[maybe_unused]] int64_t n, [[maybe_unused]] F&& f) const {
#if defined(__CUDA_ARCH__)
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) f(i);
#endif
  }

  template <typename F, typename... P>
  CAIRN_HOST_DEVICE void zip([[maybe_unused]] int64_t n, [[maybe_unused]] const F& f,
                             [[maybe_unused]] P*... p) const {
#if defined(__CUDA_ARCH__)
    ZipShare(threadIdx.x, blockDim.x, n, f, p...);
#endif
  }

  CAIRN_HOST_DEVICE void barrier() const {
#if defined(__CUDA_ARCH__)
    __syncthreads();
#endif
  }

  template <typename F>
  CAIRN_HOST_DEVICE float reduce(int64_t n, F&& f) const {
    return Combine(n, f, 0.0f, [](float a, float b) { return a + b; });
  }

  template <typename F>
  CAIRN_HOST_DEVICE float reduce_max(int64_t n, F&& f) const {
    return Combine(n, f, -__builtin_inff(), [](float a, float b) { return a > b ? a : b; });
  }

 private:
  template <typename F, typename Op>
  CAIRN_HOST_DEVICE static float Combine([[maybe_unused]] int64_t n, [[maybe_unused]] F&& f,
                                         float neutral, [[maybe_unused]] Op op) {
#if defined(__CUDA_ARCH__)
    __shared__ float warp_results[32];
    float mine = neutral;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) mine = op(mine, f(i));
    // Blocks are whole warps.
    for (int offset = 16; offset > 0; offset /= 2) {
      mine = op(mine, __shfl_xor_sync(0xffffffffu, mine, offset));
    }
    if (threadIdx.x % 32 == 0) warp_results[threadIdx.x / 32] = mine;
    __syncthreads();
    float result = neutral;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) {
      result = op(result, warp_results[warp]);
    }
    __syncthreads();  // the next call writes there again
    return result;
#else
    return neutral;
#endif
  }
};

}  // namespace cairn
