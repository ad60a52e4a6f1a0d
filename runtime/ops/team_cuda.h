#pragma once

#include <cstdint>
#include <type_traits>

#include "runtime/ops/row_team.h"
#include "runtime/tensor/dtype.h"
#include "runtime/tensor/launch_shape.h"
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

#if defined(__CUDACC__)

/// The threads of a block, which are whole warps. Numbers are combined over a butterfly within each
/// warp, then over the warps in order.
struct CudaBlock {
  __device__ int64_t thread() const { return threadIdx.x; }
  __device__ int64_t threads() const { return blockDim.x; }
  __device__ void barrier() const { __syncthreads(); }

  template <typename Op>
  __device__ float combine(float mine, float neutral, const Op& op) const {
    __shared__ float warp_results[kMaxBlockThreads / kWarpThreads];
    for (unsigned offset = kWarpThreads / 2; offset > 0; offset /= 2) {
      mine = op(mine, __shfl_xor_sync(0xffffffffu, mine, offset));
    }
    if (threadIdx.x % kWarpThreads == 0) warp_results[threadIdx.x / kWarpThreads] = mine;
    __syncthreads();
    float result = neutral;
    for (unsigned warp = 0; warp < blockDim.x / kWarpThreads; ++warp) {
      result = op(result, warp_results[warp]);
    }
    __syncthreads();  // the next call writes there again
    return result;
  }

  /// *to += value, whichever thread of whichever block comes first.
  __device__ void atomic_add(double* to, double value) const { atomicAdd(to, value); }
};

/// One block, for rows of any length and place.
using BlockTeam = RowTeam<CudaBlock>;

/// f(std::integral_constant<int, k>()) with the least k of `kChoices` (ascending) that is not less
/// than `packs`; with 0, which holds nothing, where `packs` is 0 or there is none.
template <int... kChoices, typename F>
void DispatchPacks(int64_t packs, const F& f) {
  bool done = false;
  const auto choose = [&](auto choice) {
    if (done || packs == 0 || choice < packs) return;
    done = true;
    f(choice);
  };
  (choose(std::integral_constant<int, kChoices>()), ...);
  if (!done) f(std::integral_constant<int, 0>());
}

#endif

}  // namespace cairn
