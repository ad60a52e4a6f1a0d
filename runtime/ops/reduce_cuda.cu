#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/team_cuda.h"
#include "runtime/tensor/cuda_launch.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn::cuda {
namespace {

constexpr int kThreads = 256;
constexpr uint32_t kMaxPartialSums = 1024;

template <Power kPower, typename T>
__device__ double Term(T x) {
  const double term = static_cast<double>(static_cast<float>(x));
  return kPower == Power::kFirst ? term : term * term;
}

// How many blocks there are depends on n alone, and so does the order of every addition.
template <Power kPower, typename T>
__global__ void PartialSumKernel(double* partial, const T* x, int64_t n) {
  __shared__ double sums[kThreads];
  double sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * kThreads) {
    sum += Term<kPower>(x[i]);
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) sums[threadIdx.x] += sums[threadIdx.x + width];
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

__global__ void AddPartialSumsKernel(double* total, const double* partial, int64_t count) {
  for (int64_t i = 0; i < count; ++i) *total += partial[i];
}

// Sums within a window are exact: their order does not matter, so that atomics may choose it.
template <Power kPower, typename T>
__global__ void ExactSumKernel(double* bins, const T* x, int64_t n) {
  double mine[ExactScalar::kBins] = {};
  GridTeam().for_each(n, [&](int64_t i) { ExactScalar::AddTo(mine, Term<kPower>(x[i])); });
  for (int bin = 0; bin < ExactScalar::kBins; ++bin) {
    if (mine[bin] != 0) atomicAdd(bins + bin, mine[bin]);
  }
}

LaunchShape SumLaunch(int64_t n) {
  LaunchShape shape = ElementLaunch(n);
  shape.blocks = shape.blocks < kMaxPartialSums ? shape.blocks : kMaxPartialSums;
  shape.threads = kThreads;
  return shape;
}

}  // namespace

void AddSum(const Tensor& total, const Tensor& x, Power power) {
  const LaunchShape shape = SumLaunch(x.numel());
  if (shape.blocks == 0) return;
  Device& device = x.device();
  const Tensor partial = Tensor::Empty({shape.blocks}, DType::kFloat64, device);
  DispatchFloating("sum", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    auto* const kernel = power == Power::kFirst ? PartialSumKernel<Power::kFirst, T>
                                                : PartialSumKernel<Power::kSecond, T>;
    Launch(device, shape, kernel, partial.data<double>(), x.data<T>(), x.numel());
  });
  Launch(device, {1, 1}, AddPartialSumsKernel, total.data<double>(), partial.data<double>(),
         partial.numel());
}

void AddExactSum(const Tensor& bins, const Tensor& x, Power power) {
  DispatchFloating("exact sum", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    auto* const kernel = power == Power::kFirst ? ExactSumKernel<Power::kFirst, T>
                                                : ExactSumKernel<Power::kSecond, T>;
    Launch(x.device(), SumLaunch(x.numel()), kernel, bins.data<double>(), x.data<T>(), x.numel());
  });
}

}  // namespace cairn::cuda
