#include "runtime/ops/adamw_kernel.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"

namespace cairn::cuda {
namespace {

__global__ void AdamWKernel(float* main, float* exp_avg, float* exp_avg_sq, const float* gradient,
                            int64_t n, AdamWFactors factors) {
  AdamWRange(GridTeam(), n, main, exp_avg, exp_avg_sq, gradient, factors);
}

}  // namespace

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const AdamWStep& step) {
  Launch(main.device(), ElementLaunch(main.numel()), AdamWKernel, main.data<float>(),
         exp_avg.data<float>(), exp_avg_sq.data<float>(), gradient.data<float>(), main.numel(),
         AdamWFactors(step));
}

}  // namespace cairn::cuda
