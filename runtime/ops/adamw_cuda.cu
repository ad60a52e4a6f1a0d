#include "runtime/ops/adamw_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

__global__ void AdamWKernel(float* main, float* exp_avg, float* exp_avg_sq, const float* gradient,
                            const int64_t* ends, int64_t runs, bool first_decays, int64_t n,
                            AdamWFactors factors) {
  AdamWRange(GridTeam(), n, main, exp_avg, exp_avg_sq, gradient, factors, [=](int64_t i) {
    return factors.Keep(RunDecays(RunOf(ends, runs, i), first_decays));
  });
}

}  // namespace

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const DecayRuns& runs, const AdamWStep& step) {
  Launch(main.device(), PackLaunch(runs.numel()), AdamWKernel, main.data<float>(),
         exp_avg.data<float>(), exp_avg_sq.data<float>(), gradient.data<float>(),
         runs.ends().data<int64_t>(), runs.runs(), runs.first_decays(), runs.numel(),
         AdamWFactors(step));
}

}  // namespace cairn::cuda
