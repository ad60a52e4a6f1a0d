#include "runtime/ops/cross_entropy_cpu.h"

#include <algorithm>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/cross_entropy_kernel.h"

namespace cairn::cpu {
namespace {

template <typename T>
CAIRN_CPU_KERNEL CrossEntropyPart StatsRow(const T* logits, int64_t n, int64_t target) {
  return CrossEntropyRow(CpuTeam(), n, logits, target);
}

template <typename T>
CAIRN_CPU_KERNEL void GradientRow(T* logits, int64_t n, int64_t target, float logsumexp,
                                  float scale) {
  CrossEntropyGradientRow(CpuTeam(), n, logits, target, logsumexp, scale);
}

}  // namespace

void CrossEntropyStats(const Tensor& stats, const Tensor& logits, const Tensor& targets,
                       int64_t first_row, int64_t valid) {
  auto* parts = reinterpret_cast<CrossEntropyPart*>(stats.data<float>());
  const int32_t* ids = targets.data<int32_t>();
  const int64_t columns = logits.dim(1);
  DispatchFloating("cross_entropy", logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* const data = logits.data<T>();
    ParallelFor(targets.numel(), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t target = ids[t] < 0 ? -1 : ids[t] - first_row;
        parts[t] = StatsRow(data + t * columns, valid, target);
      }
    });
  });
}

void CrossEntropyMerge(const Tensor& loss, const Tensor& logsumexp, const Tensor& parts,
                       const Tensor& targets) {
  const auto* all = reinterpret_cast<const CrossEntropyPart*>(parts.data<float>());
  const int32_t* ids = targets.data<int32_t>();
  const int64_t tokens = targets.numel();
  const int64_t ranks = parts.dim(0);
  float* losses = loss.data<float>();
  float* sums = logsumexp.data<float>();
  ParallelFor(tokens, RowGrain(16 * ranks), [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const CrossEntropyTotal total = MergeCrossEntropy(all + t, ranks, tokens);
      sums[t] = static_cast<float>(total.logsumexp);
      losses[t] = ids[t] < 0 ? 0.0f : static_cast<float>(total.logsumexp - total.target_logit);
    }
  });
}

void CrossEntropyGradient(const Tensor& logits, const Tensor& targets, const Tensor& logsumexp,
                          int64_t first_row, int64_t valid, const Tensor& loss_gradient) {
  const int32_t* ids = targets.data<int32_t>();
  const float* sums = logsumexp.data<float>();
  const float* scales = loss_gradient.data<float>();
  const int64_t columns = logits.dim(1);
  DispatchFloating("cross_entropy", logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* const data = logits.data<T>();
    ParallelFor(targets.numel(), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        T* const row = data + t * columns;
        const int64_t used = ids[t] < 0 ? 0 : valid;
        if (used > 0) GradientRow(row, used, ids[t] - first_row, sums[t], scales[t]);
        std::fill(row + used, row + columns, T(0.0f));
      }
    });
  });
}

}  // namespace cairn::cpu
