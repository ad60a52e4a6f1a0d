#include "runtime/ops/cross_entropy_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

template <int kPacks, typename T>
__global__ void __launch_bounds__(kMaxBlockThreads)
    StatsKernel(float* stats, const T* logits, const int32_t* targets, int64_t tokens,
                int64_t columns, int64_t first_row, int64_t valid) {
  const RowTeam<CudaBlock, kPacks> team;
  for (int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    const int64_t target = targets[t] < 0 ? -1 : targets[t] - first_row;
    const CrossEntropyPart part = CrossEntropyRow(team, valid, logits + t * columns, target);
    if (threadIdx.x == 0) reinterpret_cast<CrossEntropyPart*>(stats)[t] = part;
  }
}

__global__ void MergeKernel(float* loss, float* logsumexp, const float* parts,
                            const int32_t* targets, int64_t tokens, int64_t ranks) {
  const auto* all = reinterpret_cast<const CrossEntropyPart*>(parts);
  GridTeam().for_each(tokens, [&](int64_t t) {
    const CrossEntropyTotal total = MergeCrossEntropy(all + t, ranks, tokens);
    logsumexp[t] = static_cast<float>(total.logsumexp);
    loss[t] = targets[t] < 0 ? 0.0f : static_cast<float>(total.logsumexp - total.target_logit);
  });
}

template <typename T>
__global__ void __launch_bounds__(kMaxBlockThreads)
    GradientKernel(T* logits, const int32_t* targets, const float* logsumexp, const float* scales,
                   int64_t tokens, int64_t columns, int64_t first_row, int64_t valid) {
  const BlockTeam team;
  for (int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    T* const row = logits + t * columns;
    const int64_t used = targets[t] < 0 ? 0 : valid;
    CrossEntropyGradientRow(team, used, row, targets[t] - first_row, logsumexp[t], scales[t]);
    team.zip(
        columns - used, [](int64_t, T& l) { l = T(0.0f); }, row + used);
  }
}

}  // namespace

void CrossEntropyStats(const Tensor& stats, const Tensor& logits, const Tensor& targets,
                       int64_t first_row, int64_t valid) {
  DispatchFloating("cross_entropy", logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t tokens = targets.numel();
    const int64_t columns = logits.dim(1);
    const LaunchShape shape = RowLaunch(tokens, columns);
    const auto addresses =
        reinterpret_cast<uintptr_t>(logits.raw()) | static_cast<uintptr_t>(columns) * sizeof(T);
    // With 7 packs of 16 bytes: the vocabulary of GPT-2 in bf16. More do not fit the registers.
    DispatchPacks<2, 4, 7>(PacksToHold(shape, valid, sizeof(T), addresses), [&](auto packs) {
      Launch(logits.device(), shape, StatsKernel<packs(), T>, stats.data<float>(), logits.data<T>(),
             targets.data<int32_t>(), tokens, columns, first_row, valid);
    });
  });
}

void CrossEntropyMerge(const Tensor& loss, const Tensor& logsumexp, const Tensor& parts,
                       const Tensor& targets) {
  const int64_t tokens = targets.numel();
  Launch(loss.device(), ElementLaunch(tokens), MergeKernel, loss.data<float>(),
         logsumexp.data<float>(), parts.data<float>(), targets.data<int32_t>(), tokens,
         parts.dim(0));
}

void CrossEntropyGradient(const Tensor& logits, const Tensor& targets, const Tensor& logsumexp,
                          int64_t first_row, int64_t valid, const Tensor& loss_gradient) {
  DispatchFloating("cross_entropy", logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t tokens = targets.numel();
    Launch(logits.device(), RowLaunch(tokens, logits.dim(1)), GradientKernel<T>, logits.data<T>(),
           targets.data<int32_t>(), logsumexp.data<float>(), loss_gradient.data<float>(), tokens,
           logits.dim(1), first_row, valid);
  });
}

}  // namespace cairn::cuda
