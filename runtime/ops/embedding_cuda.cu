#include "runtime/ops/embedding_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/reduce_rows_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

template <typename T>
__global__ void EmbeddingKernel(T* y, const int32_t* tokens, const T* table, int64_t count,
                                int64_t n, int64_t first_row, int64_t rows) {
  for (int64_t t = blockIdx.x; t < count; t += gridDim.x) {
    const int64_t row = TableRow(tokens[t], first_row, rows);
    BlockTeam().for_each(
        n, [&](int64_t i) { y[t * n + i] = row >= 0 ? table[row * n + i] : T(0.0f); });
  }
}

template <typename T>
__global__ void PositionKernel(T* y, const T* x, const T* table, int64_t count, int64_t n,
                               int64_t seq_length, int64_t first_token) {
  for (int64_t t = blockIdx.x; t < count; t += gridDim.x) {
    const int64_t row = (first_token + t) % seq_length;
    AddPositionRow(BlockTeam(), n, y + t * n, x + t * n, table + row * n);
  }
}

// One element of a gradient += value.
template <bool kExact>
__device__ void AddElement(float* sum, double* hi, double* lo, double factor, int64_t at,
                           float value) {
  if constexpr (kExact) {
    const ExactParts parts = SplitExactly(value, factor);
    hi[at] += parts.hi;
    lo[at] += parts.lo;
  } else {
    sum[at] += value;
  }
}

// The block of a token's first occurrence adds all of its occurrences, in their order: no two
// blocks write to one row, and nothing depends on which runs first.
template <bool kExact, typename T>
__global__ void EmbeddingGradientKernel(float* sum, double* hi, double* lo, double factor,
                                        const T* dy, const int32_t* tokens, int64_t count,
                                        int64_t n, int64_t first_row, int64_t rows) {
  __shared__ bool same[kMaxBlockThreads];
  const BlockTeam team;
  for (int64_t first = blockIdx.x; first < count; first += gridDim.x) {
    const int32_t token = tokens[first];
    const int64_t row = TableRow(token, first_row, rows);
    if (row < 0) continue;
    int seen = 0;
    for (int64_t t = threadIdx.x; t < first; t += blockDim.x) seen |= tokens[t] == token ? 1 : 0;
    if (__syncthreads_or(seen) != 0) continue;
    for (int64_t begin = first; begin < count; begin += blockDim.x) {
      const int64_t mine = begin + threadIdx.x;
      same[threadIdx.x] = mine < count && tokens[mine] == token;
      if (__syncthreads_or(same[threadIdx.x] ? 1 : 0) != 0) {
        for (unsigned w = 0; w < blockDim.x; ++w) {
          if (!same[w]) continue;
          // Thread i adds the columns i, i + threads, ... of every occurrence: in order.
          team.for_each(n, [&](int64_t i) {
            AddElement<kExact>(sum, hi, lo, factor, row * n + i,
                               static_cast<float>(dy[(begin + w) * n + i]));
          });
        }
      }
      __syncthreads();
    }
  }
}

template <bool kExact, typename T>
__global__ void PositionGradientKernel(float* sum, double* hi, double* lo, double factor,
                                       const T* dy, int64_t count, int64_t n, int64_t seq_length,
                                       int64_t first_token) {
  for (int64_t row = blockIdx.x; row < seq_length; row += gridDim.x) {
    // The first token at this position.
    const int64_t start = (row - first_token % seq_length + seq_length) % seq_length;
    BlockTeam().for_each(n, [&](int64_t i) {
      for (int64_t t = start; t < count; t += seq_length) {
        AddElement<kExact>(sum, hi, lo, factor, row * n + i, static_cast<float>(dy[t * n + i]));
      }
    });
  }
}

}  // namespace

void EmbeddingForward(const Tensor& y, const Tensor& tokens, const Tensor& table,
                      int64_t first_row) {
  DispatchFloating("embedding", y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = table.dim(1);
    Launch(y.device(), RowLaunch(tokens.numel(), n), EmbeddingKernel<T>, y.data<T>(),
           tokens.data<int32_t>(), table.data<T>(), tokens.numel(), n, first_row, table.dim(0));
  });
}

void EmbeddingBackward(MainGrad& table, const Tensor& dy, const Tensor& tokens, int64_t first_row) {
  DispatchFloating("embedding", dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = dy.dim(-1);
    const GradTarget target(table);
    const int64_t rows = (table.exact() ? table.hi() : table.sum()).dim(0);
    auto* const kernel =
        target.exact() ? EmbeddingGradientKernel<true, T> : EmbeddingGradientKernel<false, T>;
    Launch(dy.device(), RowLaunch(tokens.numel(), n), kernel, target.sum, target.hi, target.lo,
           target.factor, dy.data<T>(), tokens.data<int32_t>(), tokens.numel(), n, first_row, rows);
  });
}

void PositionEmbeddingForward(const Tensor& y, const Tensor& x, const Tensor& table,
                              int64_t seq_length, int64_t first_token) {
  DispatchFloating("position_embedding", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.dim(-1);
    const int64_t count = x.numel() / n;
    Launch(x.device(), RowLaunch(count, n), PositionKernel<T>, y.data<T>(), x.data<T>(),
           table.data<T>(), count, n, seq_length, first_token);
  });
}

void PositionEmbeddingBackward(MainGrad& table, const Tensor& dy, int64_t seq_length,
                               int64_t first_token) {
  DispatchFloating("position_embedding", dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = dy.dim(-1);
    const GradTarget target(table);
    auto* const kernel =
        target.exact() ? PositionGradientKernel<true, T> : PositionGradientKernel<false, T>;
    Launch(dy.device(), RowLaunch(seq_length, n), kernel, target.sum, target.hi, target.lo,
           target.factor, dy.data<T>(), dy.numel() / n, n, seq_length, first_token);
  });
}

}  // namespace cairn::cuda
