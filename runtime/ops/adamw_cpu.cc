#include "runtime/ops/adamw_cpu.h"

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/adamw_kernel.h"

namespace cairn::cpu {
namespace {

CAIRN_CPU_KERNEL void Update(float* main, float* exp_avg, float* exp_avg_sq, const float* gradient,
                             int64_t n, const AdamWFactors& factors, float keep) {
  AdamWRange(CpuTeam(), n, main, exp_avg, exp_avg_sq, gradient, factors,
             [=](int64_t) CAIRN_INLINE { return keep; });
}

}  // namespace

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const DecayRuns& runs, const AdamWStep& step) {
  constexpr int64_t kGrain = 1 << 14;
  const AdamWFactors factors(step);
  int64_t first = 0;
  for (int64_t run = 0; run < runs.runs(); ++run) {
    const int64_t after = runs.ends().data<int64_t>()[run];
    const float keep = factors.Keep(RunDecays(run, runs.first_decays()));
    ParallelFor(after - first, kGrain,
                [&, p = main.data<float>() + first, m = exp_avg.data<float>() + first,
                 v = exp_avg_sq.data<float>() + first,
                 g = gradient.data<float>() + first](int64_t begin, int64_t end) {
                  Update(p + begin, m + begin, v + begin, g + begin, end - begin, factors, keep);
                });
    first = after;
  }
}

}  // namespace cairn::cpu
