#include "runtime/ops/attention_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/block_product_cpu.h"
#include "runtime/ops/cpu_isa.h"
#include "runtime/ops/dropout_kernel.h"
#include "runtime/ops/dropout_words.h"
#include "runtime/ops/math.h"
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

// Sums of a head's rows, in fp32, are this far apart.
constexpr int64_t SumStride(int64_t head_dim) { return RoundUpToLanes(head_dim); }

template <typename T>
CAIRN_CPU_KERNEL void StoreRows(T* to, int64_t stride, const float* from, int64_t rows,
                                int64_t head_dim, float factor) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = from + r * SumStride(head_dim);
    kTeam.for_each(head_dim,
                   [=](int64_t i) CAIRN_INLINE { to[r * stride + i] = T(row[i] * factor); });
  }
}

// Largest element and sum of a row, whose length is a multiple of kLanes. The general reductions of
// team.h cost more than the exponentials on rows this short.
constexpr int64_t kLanes = kBlockLanes;
static_assert(kKeyBlock % kLanes == 0);
using Lanes [[gnu::vector_size(kLanes * sizeof(float)), gnu::may_alias]] = float;

// Brings lane l + kDistance of `lanes` together with lane l, where there are both.
template <int kDistance, typename F>
[[gnu::always_inline]] inline void Fold(Lanes& lanes, F&& join) {
  [&]<int... l>(std::integer_sequence<int, l...>) CAIRN_INLINE {
    join(lanes, __builtin_shufflevector(lanes, lanes, (l + kDistance) % kLanes...));
  }
  (std::make_integer_sequence<int, kLanes>());
}

[[gnu::always_inline]] inline float MaxOfRow(const float* row, int64_t columns) {
  const auto* lanes = reinterpret_cast<const Lanes*>(row);
  const auto join = [](Lanes& a, const Lanes& b) CAIRN_INLINE { a = b > a ? b : a; };
  Lanes top = lanes[0];
  for (int64_t i = 1; i < columns / kLanes; ++i) join(top, lanes[i]);
  Fold<8>(top, join);
  Fold<4>(top, join);
  Fold<2>(top, join);
  Fold<1>(top, join);
  return top[0];
}

[[gnu::always_inline]] inline float SumOfRow(const float* row, int64_t columns) {
  const auto* lanes = reinterpret_cast<const Lanes*>(row);
  const auto join = [](Lanes& a, const Lanes& b) CAIRN_INLINE { a += b; };
  Lanes sum = lanes[0];
  for (int64_t i = 1; i < columns / kLanes; ++i) join(sum, lanes[i]);
  Fold<4>(sum, join);
  Fold<8>(sum, join);
  Fold<2>(sum, join);
  Fold<1>(sum, join);
  return sum[0];
}

// One step of the online softmax for each row: `scores` of the keys from k0 on become unnormalised
// probabilities under the new maximum of scaled scores (0 for keys after the query), and the row's
// sum and output so far are brought to that maximum. `diagonal` is the place of the first query
// less k0.
CAIRN_CPU_KERNEL void SoftmaxBlock(float* scores, float scale, float* max, float* sum, float* out,
                                   int64_t rows, int64_t columns, int64_t diagonal,
                                   int64_t head_dim) {
  const int64_t padded = RoundUpToLanes(columns);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kKeyBlock;
    const int64_t visible = std::min(columns, diagonal + r + 1);
    std::fill(row + visible, row + padded, -kInfinity);
    const float new_max = std::max(max[r], MaxOfRow(row, padded) * scale);
    kTeam.for_each(visible,
                   [=](int64_t i) CAIRN_INLINE { row[i] = Exp(row[i] * scale - new_max); });
    std::fill(row + visible, row + padded, 0.0f);
    const float correction = Exp(max[r] - new_max);
    if (correction != 1.0f) {
      float* out_row = out + r * SumStride(head_dim);
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
    const float* row = out + r * SumStride(head_dim);
    kTeam.for_each(head_dim,
                   [=](int64_t i) CAIRN_INLINE { to[r * stride + i] = T(row[i] / divisor); });
  }
}

// delta[r] = sum over i of dout[r, i] out[r, i]: the term that the softmax's normalisation adds.
template <typename T>
CAIRN_CPU_KERNEL void RowDots(float* delta, const T* dout, const T* out, int64_t stride,
                              int64_t rows, int64_t head_dim) {
  for (int64_t r = 0; r < rows; ++r) {
    delta[r] = kTeam.reduce(head_dim, [=](int64_t i) CAIRN_INLINE {
      return static_cast<float>(dout[r * stride + i]) * static_cast<float>(out[r * stride + i]);
    });
  }
}

// scores s become probabilities p, times the dropout factor f; d, the gradient of p f, becomes that
// of the scaled scores: p (d f - delta).
template <bool kDrop>
CAIRN_CPU_KERNEL void BackwardRow(float* s, float* d, int64_t n, float scale, float logsumexp,
                                  float delta, const uint32_t* words, DropoutRule rule) {
  kTeam.for_each(n, [=](int64_t i) CAIRN_INLINE {
    const float p = Exp(s[i] * scale - logsumexp);
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

// A task's working memory.
class Scratch {
 public:
  explicit Scratch(Device& device) : device_(&device) {}

  template <typename E>
  E* Take(int64_t elements) {
    return tensors_.emplace_back(Tensor::Empty({elements}, DTypeOf<E>::kValue, *device_))
        .template data<E>();
  }
  float* Floats(int64_t count) { return Take<float>(count); }

 private:
  Device* device_;
  std::vector<Tensor> tensors_;
};

// A block of scores, or of what becomes of them, in fp32 rows kKeyBlock apart until it is a factor.
template <typename E>
class ScoreBlock {
 public:
  ScoreBlock(Scratch& scratch, BlockSides sides)
      : scores_(scratch.Floats(kQueryBlock * kKeyBlock)), matrix_(Matrix(scratch, sides)) {}

  float* scores() const { return scores_; }
  const BlockMatrix<E>& AsMatrix(int64_t rows, int64_t columns) const {
    if constexpr (!kSame) LoadBlock(matrix_, scores_, kKeyBlock, rows, columns);
    return matrix_;
  }

 private:
  static constexpr bool kSame = std::is_same_v<E, float>;

  BlockMatrix<E> Matrix(Scratch& scratch, BlockSides sides) const {
    if constexpr (kSame) {
      return {scores_, kKeyBlock};
    } else {
      return {scratch, kQueryBlock, kKeyBlock, sides};
    }
  }

  float* scores_;
  BlockMatrix<E> matrix_;
};

float ScoreScale(const AttentionSpec& spec) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
}

template <typename E, typename T>
void ForwardHead(const HeadRows<T>& out, float* logsumexp, const GroupRows<const T>& qkv,
                 const AttentionSpec& spec, int64_t sample, int64_t head, Device& device) {
  const int64_t seq = spec.seq_length;
  const int64_t dim = spec.head_dim;
  const int64_t stride = SumStride(dim);
  const float scale = ScoreScale(spec);
  Scratch scratch(device);
  const BlockMatrix<E> k(scratch, seq, dim, {.right_transposed = true});
  const BlockMatrix<E> v(scratch, seq, dim, {.across = true});
  const BlockMatrix<E> q(scratch, kQueryBlock, dim, {.left = true});
  const ScoreBlock<E> probs(scratch, {.left = true});
  float* sum_out = scratch.Floats(kQueryBlock * stride);
  float* scores = probs.scores();
  float* max = scratch.Floats(kQueryBlock);
  float* sum = scratch.Floats(kQueryBlock);
  HeadDropout dropout(spec, sample, head);
  const HeadRows<const T> query = qkv.query(head % qkv.heads);
  LoadBlock(k, qkv.key().data, qkv.stride, seq, dim);
  LoadBlock(v, qkv.value().data, qkv.stride, seq, dim);
  for (int64_t q0 = 0; q0 < seq; q0 += kQueryBlock) {
    const int64_t rows = std::min(kQueryBlock, seq - q0);
    LoadBlock(q, query.row(q0), query.stride, rows, dim);
    std::fill_n(sum_out, rows * stride, 0.0f);
    std::fill_n(max, rows, -kInfinity);
    std::fill_n(sum, rows, 0.0f);
    for (int64_t k0 = 0; k0 < q0 + rows; k0 += kKeyBlock) {
      const int64_t columns = std::min(kKeyBlock, q0 + rows - k0);
      MultiplyTransposed(rows, columns, dim, q, k.From(k0), scores, kKeyBlock);
      SoftmaxBlock(scores, scale, max, sum, sum_out, rows, columns, q0 - k0, dim);
      for (int64_t r = 0; r < rows && dropout.active(); ++r) {
        const int64_t visible = std::min(columns, q0 + r + 1 - k0);
        DropRow(scores + r * kKeyBlock, dropout.Words(q0 + r, k0, visible), visible,
                dropout.rule());
      }
      AddProduct(rows, dim, columns, probs.AsMatrix(rows, columns), v.From(k0), sum_out, stride);
    }
    FinishRows(out.row(q0), out.stride, sum_out, sum, rows, dim);
    for (int64_t r = 0; r < rows; ++r) logsumexp[q0 + r] = max[r] + std::log(sum[r]);
  }
}

template <typename E, typename T>
void BackwardGroup(const GroupRows<T>& dqkv, const T* dout, const GroupRows<const T>& qkv,
                   const T* out, const float* logsumexp, const AttentionSpec& spec, int64_t sample,
                   int64_t group, Device& device) {
  const int64_t seq = spec.seq_length;
  const int64_t dim = spec.head_dim;
  const int64_t stride = SumStride(dim);
  const int64_t out_stride = spec.heads * dim;
  const float scale = ScoreScale(spec);
  Scratch scratch(device);
  const BlockMatrix<E> k(scratch, seq, dim, {.right_transposed = true, .across = true});
  const BlockMatrix<E> v(scratch, seq, dim, {.right_transposed = true});
  const BlockMatrix<E> q(scratch, kQueryBlock, dim, {.left = true, .across = true});
  const BlockMatrix<E> dout_block(scratch, kQueryBlock, dim, {.left = true, .across = true});
  const ScoreBlock<E> probs(scratch, {.across = true});
  const ScoreBlock<E> dscores(scratch, {.left = true, .across = true});
  float* dk = scratch.Floats(seq * stride);
  float* dv = scratch.Floats(seq * stride);
  float* dq = scratch.Floats(kQueryBlock * stride);
  float* delta = scratch.Floats(kQueryBlock);
  LoadBlock(k, qkv.key().data, qkv.stride, seq, dim);
  LoadBlock(v, qkv.value().data, qkv.stride, seq, dim);
  std::fill_n(dk, seq * stride, 0.0f);
  std::fill_n(dv, seq * stride, 0.0f);
  for (int64_t i = 0; i < qkv.heads; ++i) {
    const int64_t head = group * qkv.heads + i;
    HeadDropout dropout(spec, sample, head);
    const int64_t head_offset = sample * seq * out_stride + head * dim;
    const float* head_logsumexp = logsumexp + (sample * spec.heads + head) * seq;
    for (int64_t q0 = 0; q0 < seq; q0 += kQueryBlock) {
      const int64_t rows = std::min(kQueryBlock, seq - q0);
      const int64_t offset = head_offset + q0 * out_stride;
      LoadBlock(q, qkv.query(i).row(q0), qkv.stride, rows, dim);
      LoadBlock(dout_block, dout + offset, out_stride, rows, dim);
      RowDots(delta, dout + offset, out + offset, out_stride, rows, dim);
      std::fill_n(dq, rows * stride, 0.0f);
      for (int64_t k0 = 0; k0 < q0 + rows; k0 += kKeyBlock) {
        const int64_t columns = std::min(kKeyBlock, q0 + rows - k0);
        MultiplyTransposed(rows, columns, dim, q, k.From(k0), probs.scores(), kKeyBlock);
        MultiplyTransposed(rows, columns, dim, dout_block, v.From(k0), dscores.scores(), kKeyBlock);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t visible = std::min(columns, q0 + r + 1 - k0);
          float* s = probs.scores() + r * kKeyBlock;
          float* d = dscores.scores() + r * kKeyBlock;
          if (dropout.active()) {
            BackwardRow<true>(s, d, visible, scale, head_logsumexp[q0 + r], delta[r],
                              dropout.Words(q0 + r, k0, visible), dropout.rule());
          } else {
            BackwardRow<false>(s, d, visible, scale, head_logsumexp[q0 + r], delta[r], nullptr,
                               dropout.rule());
          }
          std::fill(s + visible, s + columns, 0.0f);
          std::fill(d + visible, d + columns, 0.0f);
        }
        const BlockMatrix<E>& p = probs.AsMatrix(rows, columns);
        const BlockMatrix<E>& ds = dscores.AsMatrix(rows, columns);
        AddTransposedProduct(columns, dim, rows, p, dout_block, dv + k0 * stride, stride);
        AddTransposedProduct(columns, dim, rows, ds, q, dk + k0 * stride, stride);
        AddProduct(rows, dim, columns, ds, k.From(k0), dq, stride);
      }
      StoreRows(dqkv.query(i).row(q0), dqkv.stride, dq, rows, dim, scale);
    }
  }
  StoreRows(dqkv.key().data, dqkv.stride, dk, seq, dim, scale);
  StoreRows(dqkv.value().data, dqkv.stride, dv, seq, dim, 1.0f);
}

// Calls f(T{}, E{}) with the dtype's type and that of the products' elements.
template <typename F>
void DispatchElements(DType dtype, F&& f) {
  DispatchFloating("Attention", dtype, [&](auto zero) {
    if constexpr (std::is_same_v<decltype(zero), BFloat16>) {
      if (HasFastBFloat16Vectors()) return f(zero, zero);
    }
    f(zero, float{});
  });
}

}  // namespace

void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec) {
  DispatchElements(qkv.dtype(), [&](auto zero, auto element) {
    using T = decltype(zero);
    using E = decltype(element);
    const int64_t stride = spec.heads * spec.head_dim;
    const int64_t heads_per_group = spec.heads / spec.groups;
    ParallelTasks(spec.samples * spec.heads, [&](int64_t task) {
      const int64_t sample = task / spec.heads;
      const int64_t head = task % spec.heads;
      T* out_head = out.data<T>() + sample * spec.seq_length * stride + head * spec.head_dim;
      ForwardHead<E, T>({out_head, stride}, logsumexp.data<float>() + task * spec.seq_length,
                        {qkv.data<T>(), spec, sample, head / heads_per_group}, spec, sample, head,
                        qkv.device());
    });
  });
}

void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec) {
  DispatchElements(qkv.dtype(), [&](auto zero, auto element) {
    using T = decltype(zero);
    using E = decltype(element);
    ParallelTasks(spec.samples * spec.groups, [&](int64_t task) {
      const int64_t sample = task / spec.groups;
      const int64_t group = task % spec.groups;
      BackwardGroup<E, T>({dqkv.data<T>(), spec, sample, group}, dout.data<T>(),
                          {qkv.data<T>(), spec, sample, group}, out.data<T>(),
                          logsumexp.data<float>(), spec, sample, group, qkv.device());
    });
  });
}

}  // namespace cairn::cpu
