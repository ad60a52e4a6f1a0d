#include "runtime/ops/attention_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/replayed_key_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

constexpr uint32_t kThreads = 256;

// The tiles of all samples and heads (or groups), one after the other. Late tiles of queries see
// the most keys; they are first, so that none of them is the last to start.
struct TilePlace {
  int64_t sample;
  int64_t head;
  int64_t tile;
};
__device__ TilePlace PlaceOfTile(int64_t index, int64_t heads, int64_t tiles) {
  return {index / tiles / heads, index / tiles % heads, tiles - 1 - index % tiles};
}

template <typename T>
__global__ void ForwardKernel(T* out, float* logsumexp, const T* qkv, int64_t samples,
                              AttentionGeometry g, const uint32_t* step) {
  extern __shared__ float scratch[];
  g.key = KeyOfStep(g.key, step);
  const int64_t count = samples * g.heads * g.Tiles();
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const TilePlace at = PlaceOfTile(index, g.heads, g.Tiles());
    AttentionForwardTile(BlockTeam(), scratch, out, logsumexp, qkv, g, at.sample, at.head, at.tile);
    __syncthreads();
  }
}

template <typename T>
__global__ void BackwardQueryKernel(T* dqkv, const T* dout, const T* qkv, const T* out,
                                    const float* logsumexp, int64_t samples, AttentionGeometry g,
                                    const uint32_t* step) {
  extern __shared__ float scratch[];
  g.key = KeyOfStep(g.key, step);
  const AttentionSaved<T> saved{dout, qkv, out, logsumexp};
  const int64_t count = samples * g.heads * g.Tiles();
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const TilePlace at = PlaceOfTile(index, g.heads, g.Tiles());
    AttentionBackwardQueryTile(BlockTeam(), scratch, dqkv, saved, g, at.sample, at.head, at.tile);
    __syncthreads();
  }
}

template <typename T>
__global__ void BackwardKeyKernel(T* dqkv, const T* dout, const T* qkv, const T* out,
                                  const float* logsumexp, int64_t samples, AttentionGeometry g,
                                  const uint32_t* step) {
  extern __shared__ float scratch[];
  g.key = KeyOfStep(g.key, step);
  const AttentionSaved<T> saved{dout, qkv, out, logsumexp};
  const int64_t groups = g.heads / g.heads_per_group;
  const int64_t count = samples * groups * g.Tiles();
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const TilePlace at = PlaceOfTile(index, groups, g.Tiles());
    AttentionBackwardKeyTile(BlockTeam(), scratch, dqkv, saved, g, at.sample, at.head,
                             g.Tiles() - 1 - at.tile);  // early keys are seen by the most queries
    __syncthreads();
  }
}

template <typename T>
__global__ void MaskKernel(T* mask, int64_t sample, AttentionGeometry g, const uint32_t* step) {
  g.key = KeyOfStep(g.key, step);
  for (int64_t row = blockIdx.x; row < g.heads * g.seq_length; row += gridDim.x) {
    AttentionMaskRow(BlockTeam(), mask + row * g.seq_length, g, sample, row / g.seq_length,
                     row % g.seq_length);
  }
}

// More shared memory than 48 KiB has to be asked for.
template <typename... P>
LaunchShape TileLaunch(void (*kernel)(P...), int64_t tiles, int64_t scratch_floats) {
  LaunchShape shape = RowLaunch(tiles, 1);
  shape.threads = kThreads;
  shape.shared_bytes = static_cast<size_t>(scratch_floats) * sizeof(float);
  CheckCuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes)),
            "cudaFuncSetAttribute");
  return shape;
}

}  // namespace

void AttentionForwardByTiles(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                             const AttentionSpec& spec) {
  const AttentionGeometry g(spec);
  DispatchFloating("attention", qkv.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(qkv.device(),
           TileLaunch(ForwardKernel<T>, spec.samples * spec.heads * g.Tiles(),
                      AttentionForwardScratch(g)),
           ForwardKernel<T>, out.data<T>(), logsumexp.data<float>(), qkv.data<T>(), spec.samples, g,
           AsCuda(qkv.device()).replayed_step());
  });
}

void AttentionBackwardByTiles(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv,
                              const Tensor& out, const Tensor& logsumexp,
                              const AttentionSpec& spec) {
  const AttentionGeometry g(spec);
  const int64_t scratch = AttentionBackwardScratch(g);
  DispatchFloating("attention", qkv.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(qkv.device(),
           TileLaunch(BackwardQueryKernel<T>, spec.samples * spec.heads * g.Tiles(), scratch),
           BackwardQueryKernel<T>, dqkv.data<T>(), dout.data<T>(), qkv.data<T>(), out.data<T>(),
           logsumexp.data<float>(), spec.samples, g, AsCuda(qkv.device()).replayed_step());
    Launch(qkv.device(),
           TileLaunch(BackwardKeyKernel<T>, spec.samples * spec.groups * g.Tiles(), scratch),
           BackwardKeyKernel<T>, dqkv.data<T>(), dout.data<T>(), qkv.data<T>(), out.data<T>(),
           logsumexp.data<float>(), spec.samples, g, AsCuda(qkv.device()).replayed_step());
  });
}

void AttentionMask(const Tensor& mask, const AttentionSpec& spec, int64_t sample) {
  DispatchFloating("attention mask", mask.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(mask.device(), RowLaunch(spec.heads * spec.seq_length, spec.seq_length), MaskKernel<T>,
           mask.data<T>(), sample, AttentionGeometry(spec), AsCuda(mask.device()).replayed_step());
  });
}

}  // namespace cairn::cuda
