#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "runtime/ops/matmul.h"
#include "runtime/ops/parallel_tasks.h"

namespace cairn::cpu {

// bf16 products by the tiles of Intel's AMX (Intel 64 and IA-32 Architectures Software Developer's
// Manual, vol. 1, ch. 18), for any `Tiles` that has their instructions: the processor's, or a
// model of them in tests. Eight registers of 16 rows × 64 bytes: 0-3 sums, 4 and 5 of a, 6 and 7 of
// b.

inline constexpr int64_t kTileRows = 16;   ///< of a, and columns of b
inline constexpr int64_t kTileDepth = 32;  ///< bf16 elements in 64 bytes
/// Rows and columns that the four registers of sums hold.
inline constexpr int64_t kTileBlock = 2 * kTileRows;

/// A tile as its register has it: 16 rows of a, or 16 pairs of rows of b, whose columns' pairs are
/// neighbours.
struct alignas(64) Tile {
  BFloat16 element[kTileRows * kTileDepth];
};

/// A matrix of bf16 with any distance between rows and between columns.
struct TileSource {
  TileSource(const Tensor& matrix, bool transposed)
      : data(matrix.data<BFloat16>()),
        row(transposed ? 1 : matrix.stride(0)),
        column(transposed ? matrix.stride(0) : 1),
        rows(matrix.dim(transposed ? 1 : 0)),
        columns(matrix.dim(transposed ? 0 : 1)) {}

  const BFloat16* data;
  int64_t row;
  int64_t column;
  int64_t rows;
  int64_t columns;
};

/// The tiles of a block's 32 rows of a: for each depth tile the upper and the lower one. What lies
/// outside of the matrix is 0.
inline void PackRows(Tile* out, const TileSource& a, int64_t first_row) {
  for (int64_t depth = 0; depth < a.columns; depth += kTileDepth) {
    const int64_t columns = std::min(kTileDepth, a.columns - depth);
    for (int64_t half = 0; half < 2; ++half, ++out) {
      if (columns < kTileDepth || first_row + kTileBlock > a.rows) *out = Tile();
      const int64_t begin = first_row + half * kTileRows;
      const int64_t rows = std::min(kTileRows, a.rows - begin);
      for (int64_t i = 0; i < rows; ++i) {
        const BFloat16* const from = a.data + (begin + i) * a.row + depth * a.column;
        BFloat16* const to = out->element + i * kTileDepth;
        if (a.column == 1) {
          std::memcpy(to, from, columns * sizeof(BFloat16));
        } else {
          for (int64_t k = 0; k < columns; ++k) to[k] = from[k * a.column];
        }
      }
    }
  }
}

/// The tiles of a block's 32 columns of b, likewise.
inline void PackColumns(Tile* out, const TileSource& b, int64_t first_column) {
  for (int64_t depth = 0; depth < b.rows; depth += kTileDepth) {
    const int64_t rows = std::min(kTileDepth, b.rows - depth);
    for (int64_t half = 0; half < 2; ++half, ++out) {
      if (rows < kTileDepth || first_column + kTileBlock > b.columns) *out = Tile();
      const int64_t begin = first_column + half * kTileRows;
      const int64_t columns = std::min(kTileRows, b.columns - begin);
      for (int64_t k = 0; k < rows; ++k) {
        const BFloat16* const from = b.data + (depth + k) * b.row + begin * b.column;
        BFloat16* const to = out->element + k / 2 * kTileDepth + k % 2;
        for (int64_t j = 0; j < columns; ++j) to[2 * j] = from[j * b.column];
      }
    }
  }
}

/// sums [32, 32] = a · b over packed tiles. Sums run over the depth in order: a row's bits depend
/// on nothing but its operands.
template <typename Tiles>
void MultiplyBlock(float* sums, const Tile* a, const Tile* b, int64_t depth_tiles) {
  Tiles::template Zero<0>();
  Tiles::template Zero<1>();
  Tiles::template Zero<2>();
  Tiles::template Zero<3>();
  for (int64_t depth = 0; depth < depth_tiles; ++depth, a += 2, b += 2) {
    Tiles::template Load<4>(a);
    Tiles::template Load<6>(b);
    Tiles::template MultiplyAdd<0, 4, 6>();
    Tiles::template Load<7>(b + 1);
    Tiles::template MultiplyAdd<1, 4, 7>();
    Tiles::template Load<5>(a + 1);
    Tiles::template MultiplyAdd<2, 5, 6>();
    Tiles::template MultiplyAdd<3, 5, 7>();
  }
  Tiles::template Store<0>(sums, kTileBlock);
  Tiles::template Store<1>(sums + kTileRows, kTileBlock);
  Tiles::template Store<2>(sums + kTileRows * kTileBlock, kTileBlock);
  Tiles::template Store<3>(sums + kTileRows * kTileBlock + kTileRows, kTileBlock);
}

/// c += or = sums (+ bias) for the part of a block that lies inside c, rounded once.
template <typename T>
void WriteBlock(const Tensor& c, int64_t row, int64_t column, const float* sums, bool accumulate,
                const BFloat16* bias) {
  const int64_t rows = std::min(kTileBlock, c.dim(0) - row);
  const int64_t columns = std::min(kTileBlock, c.dim(1) - column);
  for (int64_t i = 0; i < rows; ++i) {
    T* const out = c.data<T>() + (row + i) * c.stride(0) + column;
    const float* const sum = sums + i * kTileBlock;
    for (int64_t j = 0; j < columns; ++j) {
      float value = sum[j];
      if (accumulate) value += static_cast<float>(out[j]);
      if (bias != nullptr) value += static_cast<float>(bias[column + j]);
      out[j] = T(value);
    }
  }
}

/// See Matmul() in matmul.h: a, b and bias bf16, c bf16 or fp32. `row_block` changes nothing: no
/// row's bits depend on others.
template <typename Tiles>
void TileMatmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
                const Tensor* bias) {
  const TileSource left(a, options.transpose_a);
  const TileSource right(b, options.transpose_b);
  const int64_t depth_tiles = (left.columns + kTileDepth - 1) / kTileDepth;
  const int64_t row_blocks = (left.rows + kTileBlock - 1) / kTileBlock;
  const int64_t column_blocks = (right.columns + kTileBlock - 1) / kTileBlock;
  const auto packed = [&](int64_t blocks) {
    return Tensor::Empty({blocks * 2 * depth_tiles * static_cast<int64_t>(sizeof(Tile))},
                         DType::kUInt8, c.device());
  };
  const Tensor rows = packed(row_blocks);
  const Tensor columns = packed(column_blocks);
  auto* const row_tiles = static_cast<Tile*>(rows.raw());
  auto* const column_tiles = static_cast<Tile*>(columns.raw());
  ParallelTasks(row_blocks + column_blocks, [&](int64_t block) {
    const int64_t column = block - row_blocks;
    if (column < 0) {
      PackRows(row_tiles + block * 2 * depth_tiles, left, block * kTileBlock);
    } else {
      PackColumns(column_tiles + column * 2 * depth_tiles, right, column * kTileBlock);
    }
  });
  // A task takes what stays in its core's cache: as many columns' tiles as half a megabyte holds.
  constexpr int64_t kCachedBytes = int64_t{512} << 10;
  const int64_t panel =
      std::max<int64_t>(1, kCachedBytes / (2 * depth_tiles * static_cast<int64_t>(sizeof(Tile))));
  const int64_t panels = (column_blocks + panel - 1) / panel;
  constexpr int64_t kRowBlocks = 8;  // of a task
  const int64_t groups = (row_blocks + kRowBlocks - 1) / kRowBlocks;
  ParallelTasks(groups * panels, [&](int64_t task) {
    alignas(64) float sums[kTileBlock * kTileBlock];
    Tiles::Begin();
    const int64_t first_row = task / panels * kRowBlocks;
    const int64_t first_column = task % panels * panel;
    for (int64_t i = first_row; i < std::min(first_row + kRowBlocks, row_blocks); ++i) {
      for (int64_t j = first_column; j < std::min(first_column + panel, column_blocks); ++j) {
        MultiplyBlock<Tiles>(sums, row_tiles + i * 2 * depth_tiles,
                             column_tiles + j * 2 * depth_tiles, depth_tiles);
        const BFloat16* const added = bias != nullptr ? bias->data<BFloat16>() : nullptr;
        if (c.dtype() == DType::kFloat32) {
          WriteBlock<float>(c, i * kTileBlock, j * kTileBlock, sums, options.accumulate, added);
        } else {
          WriteBlock<BFloat16>(c, i * kTileBlock, j * kTileBlock, sums, options.accumulate, added);
        }
      }
    }
    Tiles::End();
  });
}

}  // namespace cairn::cpu
