#include "runtime/ops/gelu_cpu.h"

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/gelu_kernel.h"

namespace cairn::cpu {
namespace {

constexpr int64_t kGrain = 1 << 13;

template <typename T>
CAIRN_CPU_KERNEL void ForwardRange(T* y, const T* x, int64_t n) {
  GeluRow(CpuTeam(), n, y, x);
}

template <typename T>
CAIRN_CPU_KERNEL void BackwardRange(T* dx, const T* dy, const T* x, int64_t n) {
  GeluGradientRow(CpuTeam(), n, dx, dy, x);
}

}  // namespace

void GeluForward(const Tensor& y, const Tensor& x) {
  DispatchFloating("gelu", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ParallelFor(x.numel(), kGrain,
                [out = y.data<T>(), in = x.data<T>()](int64_t begin, int64_t end) {
                  ForwardRange(out + begin, in + begin, end - begin);
                });
  });
}

void GeluBackward(const Tensor& dx, const Tensor& dy, const Tensor& x) {
  DispatchFloating("gelu", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ParallelFor(
        x.numel(), kGrain,
        [out = dx.data<T>(), dout = dy.data<T>(), in = x.data<T>()](int64_t begin, int64_t end) {
          BackwardRange(out + begin, dout + begin, in + begin, end - begin);
        });
  });
}

}  // namespace cairn::cpu
