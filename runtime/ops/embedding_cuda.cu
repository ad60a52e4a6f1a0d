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
    if (row >= 0) {
      BlockTeam().zip(
          n, [](int64_t, T& y, const T& e) { y = e; }, y + t * n, table + row * n);
    } else {
      BlockTeam().zip(
          n, [](int64_t, T& y) { y = T(0.0f); }, y + t * n);
    }
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

// Row `row` of a gradient += a row of n elements. A barrier follows, for of the next row each
// thread may take other columns: where rows start at odd places.
template <bool kExact, typename T>
__device__ void AddRow(const BlockTeam& team, float* sum, double* hi, double* lo, double factor,
                       int64_t row, int64_t n, const T* dy) {
  if constexpr (kExact) {
    team.zip(
        n,
        [=](int64_t, double& hi, double& lo, const T& dy) {
          const ExactParts parts = SplitExactly(static_cast<float>(dy), factor);
          hi += parts.hi;
          lo += parts.lo;
        },
        hi + row * n, lo + row * n, dy);
  } else {
    team.zip(
        n, [](int64_t, float& sum, const T& dy) { sum += static_cast<float>(dy); }, sum + row * n,
        dy);
  }
  team.barrier();
}

// The block of a token's first occurrence adds all of its occurrences, in their order: no two
// blocks write to one row, and nothing depends on which runs first.
template <bool kExact, typename T>
__global__ void __launch_bounds__(kMaxBlockThreads)
    EmbeddingGradientKernel(float* sum, double* hi, double* lo, double factor, const T* dy,
                            const int32_t* tokens, int64_t count, int64_t n, int64_t first_row,
                            int64_t rows) {
  __shared__ bool same[kMaxBlockThreads];
  const BlockTeam team;
  for (int64_t first = blockIdx.x; first < count; first += gridDim.x) {
    const int32_t token = tokens[first];
    const int64_t row = TableRow(token, first_row, rows);
    if (row < 0) continue;
    // Frequent tokens, of which most blocks have one, are soon found.
    bool seen = false;
    for (int64_t begin = 0; !seen && begin < first; begin += blockDim.x) {
      const int64_t mine = begin + threadIdx.x;
      seen = __syncthreads_or(mine < first && tokens[mine] == token ? 1 : 0) != 0;
    }
    if (seen) continue;
    for (int64_t begin = first; begin < count; begin += blockDim.x) {
      const int64_t mine = begin + threadIdx.x;
      same[threadIdx.x] = mine < count && tokens[mine] == token;
      if (__syncthreads_or(same[threadIdx.x] ? 1 : 0) != 0) {
        for (unsigned w = 0; w < blockDim.x; ++w) {
          if (!same[w]) continue;
          AddRow<kExact>(team, sum, hi, lo, factor, row, n, dy + (begin + w) * n);
        }
      }
      __syncthreads();
    }
  }
}

template <bool kExact, typename T>
__global__ void __launch_bounds__(kMaxBlockThreads)
    PositionGradientKernel(float* sum, double* hi, double* lo, double factor, const T* dy,
                           int64_t count, int64_t n, int64_t seq_length, int64_t first_token) {
  const BlockTeam team;
  for (int64_t row = blockIdx.x; row < seq_length; row += gridDim.x) {
    // The first token at this position.
    const int64_t start = (row - first_token % seq_length + seq_length) % seq_length;
    for (int64_t t = start; t < count; t += seq_length) {
      AddRow<kExact>(team, sum, hi, lo, factor, row, n, dy + t * n);
    }
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
