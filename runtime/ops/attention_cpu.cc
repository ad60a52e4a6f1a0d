#include "runtime/ops/attention_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/dropout_kernel.h"
#include "runtime/ops/dropout_words.h"
#include "runtime/ops/math.h"
#include "runtime/ops/matmul_cpu.h"
#include "runtime/ops/parallel_tasks.h"
#include "runtime/ops/team.h"

namespace cairn::cpu {
namespace {

// A block of scores and what it is computed from stay in the second-level cache. Key blocks start
// at query blocks, so that each row of a block has at least one key that it may see.
constexpr int64_t kQueryBlock = 64;
constexpr int64_t kKeyBlock = 128;
static_assert(kKeyBlock % kQueryBlock == 0);

constexpr CpuTeam kTeam;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
CAIRN_CPU_KERNEL void LoadRows(float* to, const T* from, int64_t stride, int64_t rows,
                               int64_t columns, float factor) {
  for (int64_t r = 0; r < rows; ++r) {
    kTeam.for_each(columns, [=](int64_t i) CAIRN_INLINE {
      to[r * columns + i] = static_cast<float>(from[r * stride + i]) * factor;
    });
  }
}

template <typename T>
CAIRN_CPU_KERNEL void StoreRows(T* to, int64_t stride, const float* from, int64_t rows,
                                int64_t columns, float factor) {
  for (int64_t r = 0; r < rows; ++r) {
    kTeam.for_each(columns, [=](int64_t i) CAIRN_INLINE {
      to[r * stride + i] = T(from[r * columns + i] * factor);
    });
  }
}

// Largest element and sum of a row, whose length is a multiple of kLanes. The general reductions of
// team.h cost more than the exponentials on rows this short.
constexpr int64_t kLanes = 16;
static_assert(kKeyBlock % kLanes == 0);
using Lanes [[gnu::vector_size(kLanes * sizeof(float)), gnu::may_alias]] = float;

[[gnu::always_inline]] inline float MaxOfRow(const float* row, int64_t columns) {
  const auto* lanes = reinterpret_cast<const Lanes*>(row);
  Lanes top = lanes[0];
  for (int64_t i = 1; i < columns / kLanes; ++i) top = lanes[i] > top ? lanes[i] : top;
  float max = top[0];
  for (int64_t l = 1; l < kLanes; ++l) max = top[l] > max ? top[l] : max;
  return max;
}

[[gnu::always_inline]] inline float SumOfRow(const float* row, int64_t columns) {
  const auto* lanes = reinterpret_cast<const Lanes*>(row);
  Lanes sum = lanes[0];
  for (int64_t i = 1; i < columns / kLanes; ++i) sum += lanes[i];
  const float a = (sum[0] + sum[4]) + (sum[8] + sum[12]);
  const float b = (sum[1] + sum[5]) + (sum[9] + sum[13]);
  const float c = (sum[2] + sum[6]) + (sum[10] + sum[14]);
  const float d = (sum[3] + sum[7]) + (sum[11] + sum[15]);
  return (a + c) + (b + d);
}

// One step of the online softmax for each row: `scores` of the keys from k0 on become unnormalised
// probabilities under the new row maximum (0 for keys after the query), and the row's sum and
// output so far are brought to that maximum. `diagonal` is the place of the first query less k0.
CAIRN_CPU_KERNEL void SoftmaxBlock(float* scores, float* max, float* sum, float* out, int64_t rows,
                                   int64_t columns, int64_t diagonal, int64_t head_dim) {
  const int64_t padded = (columns + kLanes - 1) / kLanes * kLanes;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kKeyBlock;
    const int64_t visible = std::min(columns, diagonal + r + 1);
    std::fill(row + visible, row + padded, -kInfinity);
    const float new_max = std::max(max[r], MaxOfRow(row, padded));
    kTeam.for_each(visible, [=](int64_t i) CAIRN_INLINE { row[i] = Exp(row[i] - new_max); });
    std::fill(row + visible, row + padded, 0.0f);
    const float correction = Exp(max[r] - new_max);
    if (correction != 1.0f) {
      float* out_row = out + r * head_dim;
      kTeam.for_each(head_dim, [=](int64_t i) CAIRN_INLINE { out_row[i] *= correction; });
    }
    sum[r] = sum[r] * correction + SumOfRow(row, padded);
    max[r] = new_max;
  }
}

CAIRN_CPU_KERNEL void DropRow(float* row, const uint32_t* words, int64_t n, DropoutRule rule) {
  kTeam.for_each(n, [=](int64_t i) CAIRN_INLINE {
    row[i] = words[i] >= rule.threshold ? row[i] * rule.scale : 0.0f;
  });
}

template <typename T>
CAIRN_CPU_KERNEL void FinishRows(T* to, int64_t stride, const float* out, const float* sum,
                                 int64_t rows, int64_t head_dim) {
  for (int64_t r = 0; r < rows; ++r) {
    const float divisor = sum[r];
    kTeam.for_each(head_dim, [=](int64_t i) CAIRN_INLINE {
      to[r * stride + i] = T(out[r * head_dim + i] / divisor);
    });
  }
}

// delta[r] = sum over i of dout[r, i] out[r, i]: the term that the softmax's normalisation adds.
template <typename T>
CAIRN_CPU_KERNEL void RowDots(float* delta, const float* dout, const T* out, int64_t stride,
                              int64_t rows, int64_t head_dim) {
  for (int64_t r = 0; r < rows; ++r) {
    delta[r] = kTeam.reduce(head_dim, [=](int64_t i) CAIRN_INLINE {
      return dout[r * head_dim + i] * static_cast<float>(out[r * stride + i]);
    });
  }
}

// scores s become probabilities p, times the dropout factor f; d, the gradient of p f, becomes that
// of the scores: p (d f - delta).
template <bool kDrop>
CAIRN_CPU_KERNEL void BackwardRow(float* s, float* d, int64_t n, float logsumexp, float delta,
                                  const uint32_t* words, DropoutRule rule) {
  kTeam.for_each(n, [=](int64_t i) CAIRN_INLINE {
    const float p = Exp(s[i] - logsumexp);
    const float factor = !kDrop ? 1.0f : words[i] >= rule.threshold ? rule.scale : 0.0f;
    s[i] = p * factor;
    d[i] = p * (d[i] * factor - delta);
  });
}

// Rows of one head in a [T, stride] matrix, from the first row of its sample on.
template <typename T>
struct HeadRows {
  T* data;
  int64_t stride;

  T* row(int64_t i) const { return data + i * stride; }
};

// Where the parts of one group lie in qkv (const T) or in its gradient (T).
template <typename T>
struct GroupRows {
  GroupRows(T* qkv, const AttentionSpec& spec, int64_t sample, int64_t group)
      : heads(spec.heads / spec.groups),
        head_dim(spec.head_dim),
        stride((spec.heads + 2 * spec.groups) * spec.head_dim),
        base(qkv + sample * spec.seq_length * stride + group * (heads + 2) * head_dim) {}

  HeadRows<T> query(int64_t i) const { return {base + i * head_dim, stride}; }
  HeadRows<T> key() const { return query(heads); }
  HeadRows<T> value() const { return query(heads + 1); }

  int64_t heads;
  int64_t head_dim;
  int64_t stride;
  T* base;
};

// The random words of one head's probabilities.
class HeadDropout {
 public:
  HeadDropout(const AttentionSpec& spec, int64_t sample, int64_t head)
      : rule_{DropThreshold(spec.dropout), static_cast<float>(1.0 / (1.0 - spec.dropout))},
        key_(spec.key),
        seq_length_(spec.seq_length),
        plane_((spec.first_sample + sample) * spec.total_heads + spec.first_head + head) {}

  bool active() const { return rule_.threshold > 0; }
  const DropoutRule& rule() const { return rule_; }
  // Of a query and n keys from k0 on; valid until the next call.
  const uint32_t* Words(int64_t query, int64_t k0, int64_t n) {
    const int64_t first = (plane_ * seq_length_ + query) * seq_length_ + k0;
    return words_.Generate(key_, static_cast<uint64_t>(first), n);
  }

 private:
  DropoutRule rule_;
  RandomKey key_;
  int64_t seq_length_;
  int64_t plane_;
  RandomWords words_;
};

// fp32 working memory of one task, handed out in pieces that start at cache lines.
class Scratch {
 public:
  Scratch(int64_t floats, Device& device)
      : memory_(Tensor::Empty({floats}, DType::kFloat32, device)), next_(memory_.data<float>()) {}

  static int64_t Rounded(int64_t floats) { return (floats + 15) / 16 * 16; }
  float* Take(int64_t floats) { return std::exchange(next_, next_ + Rounded(floats)); }

 private:
  Tensor memory_;
  float* next_;
};

float ScoreScale(const AttentionSpec& spec) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
}

template <typename T>
void ForwardHead(const HeadRows<T>& out, float* logsumexp, const GroupRows<const T>& qkv,
                 const AttentionSpec& spec, int64_t sample, int64_t head, Device& device) {
  const int64_t seq = spec.seq_length;
  const int64_t dim = spec.head_dim;
  Scratch scratch(2 * Scratch::Rounded(seq * dim) + 2 * Scratch::Rounded(kQueryBlock * dim) +
                      kQueryBlock * (kKeyBlock + 2),
                  device);
  float* k = scratch.Take(seq * dim);
  float* v = scratch.Take(seq * dim);
  float* q = scratch.Take(kQueryBlock * dim);
  float* sum_out = scratch.Take(kQueryBlock * dim);
  float* scores = scratch.Take(kQueryBlock * kKeyBlock);
  float* max = scratch.Take(kQueryBlock);
  float* sum = scratch.Take(kQueryBlock);
  HeadDropout dropout(spec, sample, head);
  const HeadRows<const T> query = qkv.query(head % qkv.heads);
  LoadRows(k, qkv.key().data, qkv.stride, seq, dim, 1.0f);
  LoadRows(v, qkv.value().data, qkv.stride, seq, dim, 1.0f);
  for (int64_t q0 = 0; q0 < seq; q0 += kQueryBlock) {
    const int64_t rows = std::min(kQueryBlock, seq - q0);
    LoadRows(q, query.row(q0), query.stride, rows, dim, ScoreScale(spec));
    std::fill_n(sum_out, rows * dim, 0.0f);
    std::fill_n(max, rows, -kInfinity);
    std::fill_n(sum, rows, 0.0f);
    for (int64_t k0 = 0; k0 < q0 + rows; k0 += kKeyBlock) {
      const int64_t columns = std::min(kKeyBlock, q0 + rows - k0);
      Sgemm(false, true, rows, columns, dim, q, dim, k + k0 * dim, dim, 0.0f, scores, kKeyBlock);
      SoftmaxBlock(scores, max, sum, sum_out, rows, columns, q0 - k0, dim);
      for (int64_t r = 0; r < rows && dropout.active(); ++r) {
        const int64_t visible = std::min(columns, q0 + r + 1 - k0);
        DropRow(scores + r * kKeyBlock, dropout.Words(q0 + r, k0, visible), visible,
                dropout.rule());
      }
      Sgemm(false, false, rows, dim, columns, scores, kKeyBlock, v + k0 * dim, dim, 1.0f, sum_out,
            dim);
    }
    FinishRows(out.row(q0), out.stride, sum_out, sum, rows, dim);
    for (int64_t r = 0; r < rows; ++r) logsumexp[q0 + r] = max[r] + std::log(sum[r]);
  }
}

template <typename T>
void BackwardGroup(const GroupRows<T>& dqkv, const T* dout, const GroupRows<const T>& qkv,
                   const T* out, const float* logsumexp, const AttentionSpec& spec, int64_t sample,
                   int64_t group, Device& device) {
  const int64_t seq = spec.seq_length;
  const int64_t dim = spec.head_dim;
  const int64_t out_stride = spec.heads * dim;
  Scratch scratch(4 * Scratch::Rounded(seq * dim) + 3 * Scratch::Rounded(kQueryBlock * dim) +
                      kQueryBlock * (2 * kKeyBlock + 1),
                  device);
  float* k = scratch.Take(seq * dim);
  float* v = scratch.Take(seq * dim);
  float* dk = scratch.Take(seq * dim);
  float* dv = scratch.Take(seq * dim);
  float* q = scratch.Take(kQueryBlock * dim);
  float* dq = scratch.Take(kQueryBlock * dim);
  float* dout_block = scratch.Take(kQueryBlock * dim);
  float* scores = scratch.Take(kQueryBlock * kKeyBlock);
  float* dprobs = scratch.Take(kQueryBlock * kKeyBlock);
  float* delta = scratch.Take(kQueryBlock);
  LoadRows(k, qkv.key().data, qkv.stride, seq, dim, 1.0f);
  LoadRows(v, qkv.value().data, qkv.stride, seq, dim, 1.0f);
  std::fill_n(dk, seq * dim, 0.0f);
  std::fill_n(dv, seq * dim, 0.0f);
  for (int64_t i = 0; i < qkv.heads; ++i) {
    const int64_t head = group * qkv.heads + i;
    HeadDropout dropout(spec, sample, head);
    const int64_t head_offset = sample * seq * out_stride + head * dim;
    const float* head_logsumexp = logsumexp + (sample * spec.heads + head) * seq;
    for (int64_t q0 = 0; q0 < seq; q0 += kQueryBlock) {
      const int64_t rows = std::min(kQueryBlock, seq - q0);
      const int64_t offset = head_offset + q0 * out_stride;
      LoadRows(q, qkv.query(i).row(q0), qkv.stride, rows, dim, ScoreScale(spec));
      LoadRows(dout_block, dout + offset, out_stride, rows, dim, 1.0f);
      RowDots(delta, dout_block, out + offset, out_stride, rows, dim);
      std::fill_n(dq, rows * dim, 0.0f);
      for (int64_t k0 = 0; k0 < q0 + rows; k0 += kKeyBlock) {
        const int64_t columns = std::min(kKeyBlock, q0 + rows - k0);
        const int64_t at = k0 * dim;
        Sgemm(false, true, rows, columns, dim, q, dim, k + at, dim, 0.0f, scores, kKeyBlock);
        Sgemm(false, true, rows, columns, dim, dout_block, dim, v + at, dim, 0.0f, dprobs,
              kKeyBlock);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t visible = std::min(columns, q0 + r + 1 - k0);
          float* s = scores + r * kKeyBlock;
          float* d = dprobs + r * kKeyBlock;
          if (dropout.active()) {
            BackwardRow<true>(s, d, visible, head_logsumexp[q0 + r], delta[r],
                              dropout.Words(q0 + r, k0, visible), dropout.rule());
          } else {
            BackwardRow<false>(s, d, visible, head_logsumexp[q0 + r], delta[r], nullptr,
                               dropout.rule());
          }
          std::fill(s + visible, s + columns, 0.0f);
          std::fill(d + visible, d + columns, 0.0f);
        }
        Sgemm(true, false, columns, dim, rows, scores, kKeyBlock, dout_block, dim, 1.0f, dv + at,
              dim);
        Sgemm(true, false, columns, dim, rows, dprobs, kKeyBlock, q, dim, 1.0f, dk + at, dim);
        Sgemm(false, false, rows, dim, columns, dprobs, kKeyBlock, k + at, dim, 1.0f, dq, dim);
      }
      StoreRows(dqkv.query(i).row(q0), dqkv.stride, dq, rows, dim, ScoreScale(spec));
    }
  }
  StoreRows(dqkv.key().data, dqkv.stride, dk, seq, dim, 1.0f);
  StoreRows(dqkv.value().data, dqkv.stride, dv, seq, dim, 1.0f);
}

}  // namespace

void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec) {
  DispatchFloating("Attention", qkv.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t stride = spec.heads * spec.head_dim;
    const int64_t heads_per_group = spec.heads / spec.groups;
    ParallelTasks(spec.samples * spec.heads, [&](int64_t task) {
      const int64_t sample = task / spec.heads;
      const int64_t head = task % spec.heads;
      T* out_head = out.data<T>() + sample * spec.seq_length * stride + head * spec.head_dim;
      ForwardHead<T>({out_head, stride}, logsumexp.data<float>() + task * spec.seq_length,
                     {qkv.data<T>(), spec, sample, head / heads_per_group}, spec, sample, head,
                     qkv.device());
    });
  });
}

void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec) {
  DispatchFloating("Attention", qkv.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ParallelTasks(spec.samples * spec.groups, [&](int64_t task) {
      const int64_t sample = task / spec.groups;
      const int64_t group = task % spec.groups;
      BackwardGroup<T>({dqkv.data<T>(), spec, sample, group}, dout.data<T>(),
                       {qkv.data<T>(), spec, sample, group}, out.data<T>(), logsumexp.data<float>(),
                       spec, sample, group, qkv.device());
    });
  });
}

}  // namespace cairn::cpu
