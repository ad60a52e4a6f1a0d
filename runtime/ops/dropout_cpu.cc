#include "runtime/ops/dropout_cpu.h"

#include <algorithm>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/dropout_kernel.h"
#include "runtime/ops/dropout_words.h"

namespace cairn::cpu {
namespace {

template <bool kBias, bool kResidual, typename T>
CAIRN_CPU_KERNEL void Segment(T* y, const T* x, const T* bias, const T* residual, int64_t n,
                              DropoutRule rule, const uint32_t* words) {
  BiasDropoutAddRow<kBias, kResidual>(CpuTeam(), n, y, x, bias, residual, rule,
                                      [=](int64_t i) CAIRN_INLINE { return words[i]; });
}

template <bool kBias, bool kResidual, typename T>
void Run(const Tensor& y, const Tensor& x, const T* bias, const T* residual,
         const DropoutSpec& spec) {
  const int64_t n = x.dim(-1);
  const DropoutRule rule{DropThreshold(spec.p), static_cast<float>(1.0 / (1.0 - spec.p))};
  T* const out = y.data<T>();
  const T* const in = x.data<T>();
  ParallelFor(x.numel() / n, RowGrain(n), [&](int64_t begin, int64_t end) {
    RandomWords generator;
    // Nothing is below a threshold of 0: any words will do.
    const uint32_t* words = generator.Generate(spec.key, 0, RandomWords::kCapacity);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t column = 0; column < n; column += RandomWords::kCapacity) {
        const int64_t count = std::min(RandomWords::kCapacity, n - column);
        const int64_t at = row * n + column;
        if (rule.threshold > 0) {
          words = generator.Generate(spec.key, static_cast<uint64_t>(spec.first_index + at), count);
        }
        Segment<kBias, kResidual>(out + at, in + at, kBias ? bias + column : nullptr,
                                  kResidual ? residual + at : nullptr, count, rule, words);
      }
    }
  });
}

}  // namespace

void BiasDropoutAddForward(const Tensor& y, const Tensor& x, const Tensor* bias,
                           const Tensor* residual, const DropoutSpec& spec) {
  DispatchFloating("dropout", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* const b = bias != nullptr ? bias->data<T>() : nullptr;
    const T* const r = residual != nullptr ? residual->data<T>() : nullptr;
    if (b != nullptr) {
      r != nullptr ? Run<true, true>(y, x, b, r, spec) : Run<true, false>(y, x, b, r, spec);
    } else {
      r != nullptr ? Run<false, true>(y, x, b, r, spec) : Run<false, false>(y, x, b, r, spec);
    }
  });
}

}  // namespace cairn::cpu
