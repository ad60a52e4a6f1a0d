#include "runtime/ops/reduce_cpu.h"

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <vector>

#include "runtime/base/cpu_kernel.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn::cpu {
namespace {

constexpr int64_t kBlock = 4096;  // elements summed by one thread before blocks are added in order
constexpr int64_t kLanes = 16;
constexpr int64_t kGrain = 8;  // blocks a thread takes at least

template <Power kPower, typename T>
[[gnu::always_inline]] inline double Term(T x) {
  const double term = static_cast<double>(static_cast<float>(x));
  return kPower == Power::kFirst ? term : term * term;
}

template <Power kPower, typename T>
CAIRN_CPU_KERNEL double BlockSum(const T* x, int64_t n) {
  double lanes[kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += Term<kPower>(x[i + l]);
  }
  for (int64_t i = whole; i < n; ++i) lanes[i - whole] += Term<kPower>(x[i]);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

using Bins = std::array<double, ExactScalar::kBins>;

// The pieces of a block's terms fall into few windows: those above the largest term and those below
// the last set bit get zeros, and are left out. Sums within a window are exact, in any order.
template <Power kPower, typename T>
CAIRN_CPU_KERNEL void AddBlockToBins(double* bins, const double* quanta, const T* x, int64_t n) {
  constexpr uint64_t kMagnitude = ~uint64_t{0} >> 1;
  alignas(64) double rest[kBlock];
  uint64_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) {
    rest[i] = Term<kPower>(x[i]);
    largest = std::max(largest, std::bit_cast<uint64_t>(rest[i]) & kMagnitude);
  }
  // As bits: infinity and NaN are larger than every number.
  int bin = 0;
  while (bin < ExactScalar::kBins && largest < std::bit_cast<uint64_t>(quanta[bin] / 2)) ++bin;
  uint64_t remaining = largest;
  for (; bin < ExactScalar::kBins && remaining != 0; ++bin) {
    const double quantum = quanta[bin];
    double sum = 0;
    remaining = 0;
#pragma omp simd reduction(+ : sum) reduction(| : remaining)
    for (int64_t i = 0; i < n; ++i) {
      const double piece = RoundToQuantum(rest[i], quantum);
      sum += piece;
      rest[i] -= piece;
      remaining |= std::bit_cast<uint64_t>(rest[i]) & kMagnitude;
    }
    bins[bin] += sum;
  }
}

// Calls f with the power as a type.
template <typename F>
void DispatchPower(Power power, F&& f) {
  if (power == Power::kFirst) {
    f(std::integral_constant<Power, Power::kFirst>());
  } else {
    f(std::integral_constant<Power, Power::kSecond>());
  }
}

}  // namespace

void AddSum(const Tensor& total, const Tensor& x, Power power) {
  const int64_t n = x.numel();
  std::vector<double> sums(static_cast<size_t>((n + kBlock - 1) / kBlock));
  DispatchFloating("sum", x.dtype(), [&](auto zero) {
    DispatchPower(power, [&](auto constant) {
      const auto* data = x.data<decltype(zero)>();
      ParallelFor(static_cast<int64_t>(sums.size()), kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          sums[b] = BlockSum<constant.value>(data + b * kBlock, std::min(kBlock, n - b * kBlock));
        }
      });
    });
  });
  double* const out = total.data<double>();
  for (double sum : sums) *out += sum;
}

void AddExactSum(const Tensor& bins, const Tensor& x, Power power) {
  const int64_t n = x.numel();
  double* const out = bins.data<double>();
  Bins quanta;
  for (int i = 0; i < ExactScalar::kBins; ++i) quanta[i] = ExactScalar::Quantum(i);
  std::mutex out_mutex;
  DispatchFloating("exact sum", x.dtype(), [&](auto zero) {
    DispatchPower(power, [&](auto constant) {
      const auto* data = x.data<decltype(zero)>();
      ParallelFor((n + kBlock - 1) / kBlock, kGrain, [&](int64_t begin, int64_t end) {
        Bins local{};
        for (int64_t b = begin; b < end; ++b) {
          AddBlockToBins<constant.value>(local.data(), quanta.data(), data + b * kBlock,
                                         std::min(kBlock, n - b * kBlock));
        }
        const std::lock_guard<std::mutex> lock(out_mutex);
        for (int i = 0; i < ExactScalar::kBins; ++i) out[i] += local[i];
      });
    });
  });
}

}  // namespace cairn::cpu
