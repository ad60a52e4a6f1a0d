#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/ops/attention.h"
#include "runtime/ops/dropout_kernel.h"
#include "runtime/ops/math.h"
#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"

// Attention for teams of any kind, in fp32, one tile of queries or keys of one head at a time. The
// scratch memory is floats that all of the team see: shared memory on a GPU. Backward computes the
// scores anew, once for each tile of queries (their gradient) and once for each tile of keys (keys'
// and values'), so that no two teams add to one element and the order of every sum is fixed.
namespace cairn {

/// What the kernels need of an AttentionSpec, as plain numbers.
struct AttentionGeometry {
  explicit AttentionGeometry(const AttentionSpec& spec);

  int64_t seq_length;
  int64_t head_dim;
  int64_t heads;
  int64_t heads_per_group;
  int64_t row_stride;  ///< elements from a row of qkv to the next
  int64_t tile;        ///< rows of a tile: as many as the scratch memory has room for
  float scale;
  DropoutRule rule;
  RandomKey key;
  int64_t first_plane;  ///< of dropout: first_sample * total_heads + first_head
  int64_t total_heads;

  CAIRN_HOST_DEVICE int64_t Tiles() const { return (seq_length + tile - 1) / tile; }
  /// Where the queries of `head` start in a row; keys and values likewise for its group.
  CAIRN_HOST_DEVICE int64_t QueryColumn(int64_t head) const {
    return (head / heads_per_group * (heads_per_group + 2) + head % heads_per_group) * head_dim;
  }
  CAIRN_HOST_DEVICE int64_t KeyColumn(int64_t group) const {
    return (group * (heads_per_group + 2) + heads_per_group) * head_dim;
  }
  CAIRN_HOST_DEVICE int64_t ValueColumn(int64_t group) const { return KeyColumn(group) + head_dim; }
  /// The element of an AttentionSpec's dropout.
  CAIRN_HOST_DEVICE uint64_t DropoutIndex(int64_t sample, int64_t head, int64_t q,
                                          int64_t k) const {
    const int64_t plane = first_plane + sample * total_heads + head;
    return static_cast<uint64_t>((plane * seq_length + q) * seq_length + k);
  }
  /// 0, or what a kept probability is multiplied by.
  CAIRN_HOST_DEVICE float DropoutFactor(int64_t sample, int64_t head, int64_t q, int64_t k) const {
    if (rule.threshold == 0) return 1.0f;
    return RandomWord(key, DropoutIndex(sample, head, q, k)) >= rule.threshold ? rule.scale : 0.0f;
  }
};

/// A row of a mask of dropout, seq_length keys of query `q`: 1 where a probability is kept, else 0,
/// also for the keys behind it.
template <typename Team, typename T>
CAIRN_HOST_DEVICE inline void AttentionMaskRow(const Team& team, T* mask,
                                               const AttentionGeometry& g, int64_t sample,
                                               int64_t head, int64_t q) {
  const NeighbourWords word(g.key, g.DropoutIndex(sample, head, q, 0), true);
  const uint32_t threshold = g.rule.threshold;
  team.zip(
      g.seq_length,
      [=](int64_t k, T& kept)
          CAIRN_INLINE { kept = T(k <= q && word(k) >= threshold ? 1.0f : 0.0f); },
      mask);
}

/// Floats of scratch memory that a team needs; forward, and either half of backward.
CAIRN_HOST_DEVICE inline int64_t AttentionForwardScratch(const AttentionGeometry& g) {
  return 4 * g.tile * g.head_dim + g.tile * g.tile + 3 * g.tile;
}
CAIRN_HOST_DEVICE inline int64_t AttentionBackwardScratch(const AttentionGeometry& g) {
  return 6 * g.tile * g.head_dim + 2 * g.tile * g.tile;
}

/// to [rows, head_dim] = rows of a matrix of row stride `stride`, times `factor`.
template <typename Team, typename T>
CAIRN_HOST_DEVICE inline void LoadTile(const Team& team, float* to, const T* from, int64_t stride,
                                       int64_t rows, int64_t head_dim, float factor) {
  team.for_each(rows * head_dim, [=](int64_t i) {
    to[i] = static_cast<float>(from[i / head_dim * stride + i % head_dim]) * factor;
  });
}

CAIRN_HOST_DEVICE inline float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// One tile of queries of one head; out [T, heads * head_dim], logsumexp [samples, heads, seq].
template <typename Team, typename T>
CAIRN_HOST_DEVICE inline void AttentionForwardTile(const Team& team, float* scratch, T* out,
                                                   float* logsumexp, const T* qkv,
                                                   const AttentionGeometry& g, int64_t sample,
                                                   int64_t head, int64_t query_tile) {
  const int64_t dim = g.head_dim;
  const int64_t tile = g.tile;
  float* const q = scratch;
  float* const k = q + tile * dim;
  float* const v = k + tile * dim;
  float* const sum_out = v + tile * dim;
  float* const scores = sum_out + tile * dim;
  float* const max = scores + tile * tile;
  float* const sum = max + tile;
  float* const correction = sum + tile;
  const T* const rows_of_sample = qkv + sample * g.seq_length * g.row_stride;
  const int64_t group = head / g.heads_per_group;
  const int64_t q0 = query_tile * tile;
  const int64_t rows = q0 + tile < g.seq_length ? tile : g.seq_length - q0;

  LoadTile(team, q, rows_of_sample + q0 * g.row_stride + g.QueryColumn(head), g.row_stride, rows,
           dim, g.scale);
  team.for_each(rows * dim, [=](int64_t i) { sum_out[i] = 0; });
  team.for_each(rows, [=](int64_t r) {
    max[r] = -__builtin_inff();
    sum[r] = 0;
  });
  for (int64_t k0 = 0; k0 < q0 + rows; k0 += tile) {
    const int64_t columns = k0 + tile < g.seq_length ? tile : g.seq_length - k0;
    LoadTile(team, k, rows_of_sample + k0 * g.row_stride + g.KeyColumn(group), g.row_stride,
             columns, dim, 1.0f);
    LoadTile(team, v, rows_of_sample + k0 * g.row_stride + g.ValueColumn(group), g.row_stride,
             columns, dim, 1.0f);
    team.barrier();
    team.for_each(rows * columns, [=](int64_t i) {
      const int64_t r = i / columns;
      const int64_t c = i % columns;
      scores[r * tile + c] =
          k0 + c <= q0 + r ? Dot(q + r * dim, k + c * dim, dim) : -__builtin_inff();
    });
    team.barrier();
    team.for_each(rows, [=](int64_t r) {
      float* const row = scores + r * tile;
      float top = max[r];
      for (int64_t c = 0; c < columns; ++c) top = row[c] > top ? row[c] : top;
      correction[r] = Exp(max[r] - top);
      float total = 0;
      for (int64_t c = 0; c < columns; ++c) {
        row[c] = Exp(row[c] - top);
        total += row[c];
      }
      sum[r] = sum[r] * correction[r] + total;
      max[r] = top;
    });
    team.barrier();
    if (g.rule.threshold > 0) {
      team.for_each(rows * columns, [=](int64_t i) {
        const int64_t r = i / columns;
        const int64_t c = i % columns;
        scores[r * tile + c] *= g.DropoutFactor(sample, head, q0 + r, k0 + c);
      });
      team.barrier();
    }
    team.for_each(rows * dim, [=](int64_t i) {
      const int64_t r = i / dim;
      float total = sum_out[i] * correction[r];
      for (int64_t c = 0; c < columns; ++c) total += scores[r * tile + c] * v[c * dim + i % dim];
      sum_out[i] = total;
    });
    team.barrier();
  }
  T* const out_rows = out + (sample * g.seq_length + q0) * g.heads * dim + head * dim;
  team.for_each(rows * dim, [=](int64_t i) {
    out_rows[i / dim * g.heads * dim + i % dim] = T(sum_out[i] / sum[i / dim]);
  });
  float* const logsumexp_rows = logsumexp + (sample * g.heads + head) * g.seq_length + q0;
  team.for_each(rows, [=](int64_t r) { logsumexp_rows[r] = max[r] + std::log(sum[r]); });
}

/// The matrices that backward reads.
template <typename T>
struct AttentionSaved {
  const T* dout;
  const T* qkv;
  const T* out;
  const float* logsumexp;
};

/// p [rows, columns] of row stride `tile` = probabilities of the queries q0.. (scaled rows q) and
/// the keys k0.. times their dropout factors; ds = the gradient of the scores. `out` is the first
/// query's row of the saved output, `dout` the loaded rows of its gradient.
template <typename Team, typename T>
CAIRN_HOST_DEVICE inline void AttentionScoresAgain(
    const Team& team, float* p, float* ds, const float* q, const float* k, const float* v,
    const float* dout, const T* out, const float* logsumexp, const AttentionGeometry& g,
    int64_t sample, int64_t head, int64_t q0, int64_t rows, int64_t k0, int64_t columns) {
  const int64_t dim = g.head_dim;
  const int64_t out_stride = g.heads * dim;
  team.for_each(rows * columns, [=](int64_t i) {
    const int64_t r = i / columns;
    const int64_t c = i % columns;
    const int64_t at = r * g.tile + c;
    if (k0 + c > q0 + r) {
      p[at] = 0;
      ds[at] = 0;
      return;
    }
    // The term that the softmax's normalisation adds.
    float delta = 0;
    for (int64_t d = 0; d < dim; ++d) {
      delta += dout[r * dim + d] * static_cast<float>(out[r * out_stride + d]);
    }
    const float probability = Exp(Dot(q + r * dim, k + c * dim, dim) - logsumexp[r]);
    const float factor = g.DropoutFactor(sample, head, q0 + r, k0 + c);
    p[at] = probability * factor;
    ds[at] = probability * (Dot(dout + r * dim, v + c * dim, dim) * factor - delta);
  });
}

/// The gradient of one tile of queries of one head, into dqkv.
template <typename Team, typename T>
CAIRN_HOST_DEVICE inline void AttentionBackwardQueryTile(const Team& team, float* scratch, T* dqkv,
                                                         const AttentionSaved<T>& saved,
                                                         const AttentionGeometry& g, int64_t sample,
                                                         int64_t head, int64_t query_tile) {
  const int64_t dim = g.head_dim;
  const int64_t tile = g.tile;
  float* const q = scratch;
  float* const k = q + tile * dim;
  float* const v = k + tile * dim;
  float* const dout = v + tile * dim;
  float* const dq = dout + tile * dim;
  float* const p = dq + tile * dim;
  float* const ds = p + tile * tile;
  const int64_t first_row = sample * g.seq_length;
  const T* const qkv = saved.qkv + first_row * g.row_stride;
  const int64_t group = head / g.heads_per_group;
  const int64_t q0 = query_tile * tile;
  const int64_t rows = q0 + tile < g.seq_length ? tile : g.seq_length - q0;
  const int64_t out_stride = g.heads * dim;
  const int64_t out_at = (first_row + q0) * out_stride + head * dim;

  LoadTile(team, q, qkv + q0 * g.row_stride + g.QueryColumn(head), g.row_stride, rows, dim,
           g.scale);
  LoadTile(team, dout, saved.dout + out_at, out_stride, rows, dim, 1.0f);
  team.for_each(rows * dim, [=](int64_t i) { dq[i] = 0; });
  for (int64_t k0 = 0; k0 < q0 + rows; k0 += tile) {
    const int64_t columns = k0 + tile < g.seq_length ? tile : g.seq_length - k0;
    LoadTile(team, k, qkv + k0 * g.row_stride + g.KeyColumn(group), g.row_stride, columns, dim,
             1.0f);
    LoadTile(team, v, qkv + k0 * g.row_stride + g.ValueColumn(group), g.row_stride, columns, dim,
             1.0f);
    team.barrier();
    AttentionScoresAgain(team, p, ds, q, k, v, dout, saved.out + out_at,
                         saved.logsumexp + (sample * g.heads + head) * g.seq_length + q0, g, sample,
                         head, q0, rows, k0, columns);
    team.barrier();
    team.for_each(rows * dim, [=](int64_t i) {
      const int64_t r = i / dim;
      float total = dq[i];
      for (int64_t c = 0; c < columns; ++c) total += ds[r * tile + c] * k[c * dim + i % dim];
      dq[i] = total;
    });
    team.barrier();
  }
  T* const to = dqkv + (first_row + q0) * g.row_stride + g.QueryColumn(head);
  team.for_each(rows * dim,
                [=](int64_t i) { to[i / dim * g.row_stride + i % dim] = T(dq[i] * g.scale); });
}

/// The gradients of one tile of keys and values of one group, into dqkv: its heads one after the
/// other.
template <typename Team, typename T>
CAIRN_HOST_DEVICE inline void AttentionBackwardKeyTile(const Team& team, float* scratch, T* dqkv,
                                                       const AttentionSaved<T>& saved,
                                                       const AttentionGeometry& g, int64_t sample,
                                                       int64_t group, int64_t key_tile) {
  const int64_t dim = g.head_dim;
  const int64_t tile = g.tile;
  float* const q = scratch;
  float* const k = q + tile * dim;
  float* const v = k + tile * dim;
  float* const dout = v + tile * dim;
  float* const dk = dout + tile * dim;
  float* const dv = dk + tile * dim;
  float* const p = dv + tile * dim;
  float* const ds = p + tile * tile;
  const int64_t first_row = sample * g.seq_length;
  const T* const qkv = saved.qkv + first_row * g.row_stride;
  const int64_t k0 = key_tile * tile;
  const int64_t columns = k0 + tile < g.seq_length ? tile : g.seq_length - k0;
  const int64_t out_stride = g.heads * dim;

  LoadTile(team, k, qkv + k0 * g.row_stride + g.KeyColumn(group), g.row_stride, columns, dim, 1.0f);
  LoadTile(team, v, qkv + k0 * g.row_stride + g.ValueColumn(group), g.row_stride, columns, dim,
           1.0f);
  team.for_each(columns * dim, [=](int64_t i) {
    dk[i] = 0;
    dv[i] = 0;
  });
  for (int64_t h = 0; h < g.heads_per_group; ++h) {
    const int64_t head = group * g.heads_per_group + h;
    for (int64_t q0 = k0; q0 < g.seq_length; q0 += tile) {
      const int64_t rows = q0 + tile < g.seq_length ? tile : g.seq_length - q0;
      const int64_t out_at = (first_row + q0) * out_stride + head * dim;
      LoadTile(team, q, qkv + q0 * g.row_stride + g.QueryColumn(head), g.row_stride, rows, dim,
               g.scale);
      LoadTile(team, dout, saved.dout + out_at, out_stride, rows, dim, 1.0f);
      team.barrier();
      AttentionScoresAgain(team, p, ds, q, k, v, dout, saved.out + out_at,
                           saved.logsumexp + (sample * g.heads + head) * g.seq_length + q0, g,
                           sample, head, q0, rows, k0, columns);
      team.barrier();
      team.for_each(columns * dim, [=](int64_t i) {
        const int64_t c = i / dim;
        const int64_t d = i % dim;
        float dk_total = dk[i];
        float dv_total = dv[i];
        for (int64_t r = 0; r < rows; ++r) {
          dk_total += ds[r * tile + c] * q[r * dim + d];  // q carries the scale
          dv_total += p[r * tile + c] * dout[r * dim + d];
        }
        dk[i] = dk_total;
        dv[i] = dv_total;
      });
      team.barrier();
    }
  }
  T* const keys = dqkv + (first_row + k0) * g.row_stride + g.KeyColumn(group);
  T* const values = dqkv + (first_row + k0) * g.row_stride + g.ValueColumn(group);
  team.for_each(columns * dim, [=](int64_t i) {
    keys[i / dim * g.row_stride + i % dim] = T(dk[i]);
    values[i / dim * g.row_stride + i % dim] = T(dv[i]);
  });
}

}  // namespace cairn
