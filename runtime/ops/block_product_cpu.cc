#include "runtime/ops/block_product_cpu.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/matmul_cpu.h"
#include "runtime/ops/team.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn::cpu {
namespace {

constexpr CpuTeam kTeam;

// Where a pair of A lies, in elements: from a row of the product to the next, and from a step along
// the sum, which takes a pair, to the next.
struct Strides {
  int64_t row;
  int64_t step;
};

#if defined(__x86_64__)

#define CAIRN_BFLOAT16_VECTORS [[gnu::target("avx512f,avx512bf16")]]

// Each vector that is loaded serves four times, and there are more sums under way than the
// multiplier has stages.
constexpr int kMostRows = 4;
constexpr int kMostVectors = 4;

template <int kRows, int kVectors>
CAIRN_BFLOAT16_VECTORS void MultiplyTile(int64_t steps, const BFloat16* a, Strides a_strides,
                                         const BFloat16* b, int64_t b_stride, bool add, float* c,
                                         int64_t ldc) {
  __m512 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = add ? _mm512_loadu_ps(c + r * ldc + v * kBlockLanes) : _mm512_setzero_ps();
    }
  }
  for (int64_t step = 0; step < steps; ++step, a += a_strides.step, b += b_stride) {
    for (int r = 0; r < kRows; ++r) {
      int pair;
      std::memcpy(&pair, a + r * a_strides.row, sizeof(pair));
      const auto row = (__m512bh)_mm512_set1_epi32(pair);
      for (int v = 0; v < kVectors; ++v) {
        const auto columns = (__m512bh)_mm512_loadu_si512(b + v * 2 * kBlockLanes);
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, columns);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_ps(c + r * ldc + v * kBlockLanes, sums[r][v]);
    }
  }
}

using Tile = void (*)(int64_t, const BFloat16*, Strides, const BFloat16*, int64_t, bool, float*,
                      int64_t);

Tile TileOf(int64_t rows, int64_t vectors) {
  static constexpr auto kTiles = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array<Tile, sizeof...(kIndex)>{
        &MultiplyTile<kIndex / kMostVectors + 1, kIndex % kMostVectors + 1>...};
  }
  (std::make_integer_sequence<int, kMostRows * kMostVectors>());
  return kTiles[(rows - 1) * kMostVectors + vectors - 1];
}

// Vectors outermost: what is read of B for every row stays in the first-level cache.
void Multiply(int64_t m, int64_t n, int64_t depth, const BFloat16* a, Strides a_strides,
              const BFloat16* b, int64_t b_stride, bool add, float* c, int64_t ldc) {
  const int64_t vectors = RoundUpToLanes(n) / kBlockLanes;
  for (int64_t v = 0; v < vectors; v += kMostVectors) {
    const int64_t some_vectors = std::min<int64_t>(kMostVectors, vectors - v);
    for (int64_t r = 0; r < m; r += kMostRows) {
      const int64_t some_rows = std::min<int64_t>(kMostRows, m - r);
      TileOf(some_rows, some_vectors)((depth + 1) / 2, a + r * a_strides.row, a_strides,
                                      b + v * 2 * kBlockLanes, b_stride, add,
                                      c + r * ldc + v * kBlockLanes, ldc);
    }
  }
}

#else

void Multiply(int64_t, int64_t, int64_t, const BFloat16*, Strides, const BFloat16*, int64_t, bool,
              float*, int64_t) {
  LOG(FATAL) << "vdpbf16ps on a processor without it";
}

#endif

template <typename E, typename T>
[[gnu::always_inline]] inline E Converted(T element) {
  if constexpr (std::is_same_v<E, T>) {
    return element;
  } else {
    return E(static_cast<float>(element));
  }
}

template <typename E, typename T>
CAIRN_CPU_KERNEL void LoadRows(E* to, int64_t to_stride, const T* from, int64_t stride,
                               int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r, to += to_stride, from += stride) {
    kTeam.for_each(columns, [=](int64_t c) CAIRN_INLINE { to[c] = Converted<E>(from[c]); });
    std::fill(to + columns, to + to_stride, E(0.0f));
  }
}

template <typename T>
CAIRN_CPU_KERNEL void LoadAcross(BFloat16* to, int64_t to_stride, const T* from, int64_t stride,
                                 int64_t rows, int64_t columns) {
  const BFloat16 zero(0.0f);
  for (int64_t r = 0; r < rows; r += 2, to += to_stride, from += 2 * stride) {
    const T* const next = from + stride;
    if (r + 1 < rows) {
      kTeam.for_each(columns, [=](int64_t c) CAIRN_INLINE {
        to[2 * c] = Converted<BFloat16>(from[c]);
        to[2 * c + 1] = Converted<BFloat16>(next[c]);
      });
    } else {
      kTeam.for_each(columns, [=](int64_t c) CAIRN_INLINE {
        to[2 * c] = Converted<BFloat16>(from[c]);
        to[2 * c + 1] = zero;
      });
    }
    std::fill(to + 2 * columns, to + to_stride, zero);
  }
}

template <typename T>
CAIRN_CPU_KERNEL void LoadTransposed(BFloat16* to, int64_t to_stride, const T* from, int64_t stride,
                                     int64_t rows, int64_t columns) {
  const BFloat16 zero(0.0f);
  for (int64_t c = 0; c < columns; c += 2, to += to_stride, from += 2) {
    const bool pair = c + 1 < columns;
    for (int64_t r = 0; r < rows; ++r) {
      to[2 * r] = Converted<BFloat16>(from[r * stride]);
      to[2 * r + 1] = pair ? Converted<BFloat16>(from[r * stride + 1]) : zero;
    }
    std::fill(to + 2 * rows, to + to_stride, zero);
  }
}

}  // namespace

template <typename E, typename T>
void LoadBlock(const BlockMatrix<E>& to, const T* from, int64_t stride, int64_t rows,
               int64_t columns) {
  if constexpr (std::is_same_v<E, float>) {
    LoadRows(to.data, to.stride, from, stride, rows, columns);
  } else {
    if (to.left != nullptr) LoadRows(to.left, to.left_stride, from, stride, rows, columns);
    if (to.right_transposed != nullptr) {
      LoadTransposed(to.right_transposed, to.right_transposed_stride, from, stride, rows, columns);
    }
    if (to.across != nullptr) LoadAcross(to.across, to.across_stride, from, stride, rows, columns);
  }
}
template void LoadBlock(const BlockMatrix<float>&, const float*, int64_t, int64_t, int64_t);
template void LoadBlock(const BlockMatrix<float>&, const BFloat16*, int64_t, int64_t, int64_t);
template void LoadBlock(const BlockMatrix<float>&, const Float16*, int64_t, int64_t, int64_t);
template void LoadBlock(const BlockMatrix<BFloat16>&, const float*, int64_t, int64_t, int64_t);
template void LoadBlock(const BlockMatrix<BFloat16>&, const BFloat16*, int64_t, int64_t, int64_t);

template <>
void MultiplyTransposed(int64_t m, int64_t n, int64_t depth, const BlockMatrix<float>& a,
                        const BlockMatrix<float>& b, float* c, int64_t ldc) {
  Sgemm(false, true, m, n, depth, a.data, a.stride, b.data, b.stride, 0.0f, c, ldc);
}
template <>
void MultiplyTransposed(int64_t m, int64_t n, int64_t depth, const BlockMatrix<BFloat16>& a,
                        const BlockMatrix<BFloat16>& b, float* c, int64_t ldc) {
  Multiply(m, n, depth, a.left, {a.left_stride, 2}, b.right_transposed, b.right_transposed_stride,
           false, c, ldc);
}

template <>
void AddProduct(int64_t m, int64_t n, int64_t depth, const BlockMatrix<float>& a,
                const BlockMatrix<float>& b, float* c, int64_t ldc) {
  Sgemm(false, false, m, n, depth, a.data, a.stride, b.data, b.stride, 1.0f, c, ldc);
}
template <>
void AddProduct(int64_t m, int64_t n, int64_t depth, const BlockMatrix<BFloat16>& a,
                const BlockMatrix<BFloat16>& b, float* c, int64_t ldc) {
  Multiply(m, n, depth, a.left, {a.left_stride, 2}, b.across, b.across_stride, true, c, ldc);
}

template <>
void AddTransposedProduct(int64_t m, int64_t n, int64_t depth, const BlockMatrix<float>& a,
                          const BlockMatrix<float>& b, float* c, int64_t ldc) {
  Sgemm(true, false, m, n, depth, a.data, a.stride, b.data, b.stride, 1.0f, c, ldc);
}
template <>
void AddTransposedProduct(int64_t m, int64_t n, int64_t depth, const BlockMatrix<BFloat16>& a,
                          const BlockMatrix<BFloat16>& b, float* c, int64_t ldc) {
  Multiply(m, n, depth, a.across, {2, a.across_stride}, b.across, b.across_stride, true, c, ldc);
}

}  // namespace cairn::cpu
