#include "runtime/tensor/elementwise_cpu.h"

#include <array>
#include <cstring>

#include "runtime/base/cpu_kernel.h"
#include "runtime/base/error.h"

namespace cairn::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements a thread: below, starting the team costs more

template <typename T>
CAIRN_CPU_KERNEL void FillRange(T* out, int64_t n, T value) {
  for (int64_t i = 0; i < n; ++i) out[i] = value;
}

template <typename D, typename S>
CAIRN_CPU_KERNEL void ConvertRange(D* out, const S* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = D(static_cast<float>(in[i]));
}

template <typename D, typename S>
CAIRN_CPU_KERNEL void AddToRange(D* out, const S* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = D(static_cast<float>(out[i]) + static_cast<float>(in[i]));
}

template <typename T>
CAIRN_CPU_KERNEL void AddRange(T* out, const T* a, const T* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = T(static_cast<float>(a[i]) + static_cast<float>(b[i]));
}

template <typename T>
CAIRN_CPU_KERNEL void ScaleRange(T* out, int64_t n, float factor) {
  for (int64_t i = 0; i < n; ++i) out[i] = T(static_cast<float>(out[i]) * factor);
}

CAIRN_CPU_KERNEL void ScaleRangeFp64(double* out, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) out[i] *= factor;
}

CAIRN_CPU_KERNEL void AddToRangeFp64(double* out, const double* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += in[i];
}

// Calls f(destination row, source row, row elements) for the innermost runs that are contiguous in
// both; element strides above them are arbitrary.
template <typename F>
void ForEachRun(const Tensor& destination, const Tensor& source, F&& f) {
  const Shape& shape = destination.shape();
  const int rank = shape.rank();
  if (shape.numel() == 0) return;
  if (destination.contiguous() && source.contiguous()) return f(0, 0, shape.numel());
  const bool unit_stride = destination.stride(-1) == 1 && source.stride(-1) == 1;
  const int64_t run = unit_stride ? shape[rank - 1] : 1;
  std::array<int64_t, Shape::kMaxRank> index{};
  const int outer = unit_stride ? rank - 1 : rank;
  for (;;) {
    int64_t to = 0;
    int64_t from = 0;
    for (int d = 0; d < outer; ++d) {
      to += index[d] * destination.stride(d);
      from += index[d] * source.stride(d);
    }
    f(to, from, run);
    int d = outer - 1;
    while (d >= 0 && ++index[d] == shape[d]) index[d--] = 0;
    if (d < 0) return;
  }
}

}  // namespace

void Fill(const Tensor& destination, double value) {
  const int64_t n = destination.numel();
  if (destination.dtype() == DType::kFloat64) {
    return FillRange(destination.data<double>(), n, value);
  }
  DispatchFloating("Fill", destination.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = destination.data<T>();
    ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
      FillRange(out + begin, end - begin, T(static_cast<float>(value)));
    });
  });
}

void CopyTo(const Tensor& destination, const Tensor& source) {
  DispatchFloating("CopyTo", destination.dtype(), [&](auto d_zero) {
    DispatchFloating("CopyTo", source.dtype(), [&](auto s_zero) {
      using D = decltype(d_zero);
      using S = decltype(s_zero);
      D* out = destination.data<D>();
      const S* in = source.data<S>();
      ForEachRun(destination, source, [&](int64_t to, int64_t from, int64_t run) {
        ParallelFor(run, kGrain, [&](int64_t begin, int64_t end) {
          ConvertRange(out + to + begin, in + from + begin, end - begin);
        });
      });
    });
  });
}

void CopyBytesStrided(const Tensor& destination, const Tensor& source) {
  const size_t size = DTypeSize(destination.dtype());
  auto* out = static_cast<std::byte*>(destination.raw());
  const auto* in = static_cast<const std::byte*>(source.raw());
  ForEachRun(destination, source, [&](int64_t to, int64_t from, int64_t run) {
    std::memcpy(out + to * size, in + from * size, run * size);
  });
}

void AddTo(const Tensor& destination, const Tensor& source) {
  const int64_t n = destination.numel();
  if (destination.dtype() == DType::kFloat64) {
    return AddToRangeFp64(destination.data<double>(), source.data<double>(), n);
  }
  DispatchFloating("AddTo", destination.dtype(), [&](auto d_zero) {
    DispatchFloating("AddTo", source.dtype(), [&](auto s_zero) {
      using D = decltype(d_zero);
      using S = decltype(s_zero);
      D* out = destination.data<D>();
      const S* in = source.data<S>();
      ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
        AddToRange(out + begin, in + begin, end - begin);
      });
    });
  });
}

void Scale(const Tensor& destination, double factor) {
  const int64_t n = destination.numel();
  if (destination.dtype() == DType::kFloat64) {
    return ScaleRangeFp64(destination.data<double>(), n, factor);
  }
  DispatchFloating("Scale", destination.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = destination.data<T>();
    ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
      ScaleRange(out + begin, end - begin, static_cast<float>(factor));
    });
  });
}

void Add(const Tensor& out, const Tensor& a, const Tensor& b) {
  DispatchFloating("Add", out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ParallelFor(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
      AddRange(out.data<T>() + begin, a.data<T>() + begin, b.data<T>() + begin, end - begin);
    });
  });
}

}  // namespace cairn::cpu
