#include "runtime/ops/adamw_cpu.h"

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/adamw_kernel.h"

namespace cairn::cpu {
namespace {

CAIRN_CPU_KERNEL void Update(float* main, float* exp_avg, float* exp_avg_sq, const float* gradient,
                             int64_t n, const AdamWFactors& factors) {
  AdamWRange(CpuTeam(), n, main, exp_avg, exp_avg_sq, gradient, factors);
}

}  // namespace

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const AdamWStep& step) {
  constexpr int64_t kGrain = 1 << 14;
  ParallelFor(
      main.numel(), kGrain,
      [p = main.data<float>(), m = exp_avg.data<float>(), v = exp_avg_sq.data<float>(),
       g = gradient.data<float>(), factors = AdamWFactors(step)](int64_t begin, int64_t end) {
        Update(p + begin, m + begin, v + begin, g + begin, end - begin, factors);
      });
}

}  // namespace cairn::cpu
