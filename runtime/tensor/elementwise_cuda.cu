#include <type_traits>

#include "runtime/tensor/cuda_launch.h"
#include "runtime/tensor/elementwise_cuda.h"
#include "runtime/tensor/elementwise_kernel.h"
#include "runtime/tensor/exact_sum.h"
#include "runtime/tensor/pack.h"

namespace cairn::cuda {
namespace {

// Of the calling thread, and the distance to its next element.
__device__ int64_t FirstIndex() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ int64_t IndexStride() { return int64_t{gridDim.x} * blockDim.x; }

// f(p[i]...) for all i in [0, n), by the threads of the launch; see ZipShare().
template <typename F, typename... P>
__device__ void Zip(int64_t n, F f, P*... p) {
  ZipShare(
      FirstIndex(), IndexStride(), n, [&](int64_t, auto&... elements) { f(elements...); }, p...);
}

template <typename T>
__global__ void FillKernel(T* out, int64_t n, T value) {
  Zip(
      n, [=](T& out) { out = value; }, out);
}

template <typename D, typename S>
__global__ void ConvertKernel(D* out, const S* in, int64_t n) {
  Zip(
      n, [](D& out, const S& in) { out = D(static_cast<float>(in)); }, out, in);
}

// D and S of one size where no conversion is wanted: elements of any dtype as unsigned integers.
template <typename D, typename S>
__global__ void CopyKernel(D* out, const S* in, int64_t n, CopyLayout layout) {
  for (int64_t i = FirstIndex(); i < n; i += IndexStride()) {
    const CopyPlace place = PlaceOf(layout, i);
    if constexpr (std::is_same_v<D, S>) {
      out[place.to] = in[place.from];
    } else {
      out[place.to] = D(static_cast<float>(in[place.from]));
    }
  }
}

template <typename D, typename S>
__global__ void AddToKernel(D* out, const S* in, int64_t n) {
  Zip(
      n, [](D& out, const S& in) { out = Sum<D>(out, in); }, out, in);
}

template <typename T>
__global__ void AddKernel(T* out, const T* a, const T* b, int64_t n) {
  Zip(
      n, [](T& out, const T& a, const T& b) { out = Sum<T>(a, b); }, out, a, b);
}

template <typename T, typename F>
__global__ void ScaleKernel(T* out, int64_t n, F factor) {
  Zip(
      n, [=](T& out) { out = T(static_cast<F>(out) * factor); }, out);
}

template <typename T>
__global__ void ExactAddKernel(double* hi, double* lo, const T* term, int64_t n, double factor) {
  Zip(
      n,
      [=](double& hi, double& lo, const T& term) {
        const ExactParts parts = SplitExactly(static_cast<float>(term), factor);
        hi += parts.hi;
        lo += parts.lo;
      },
      hi, lo, term);
}

__global__ void ExactToFloatKernel(float* sum, const double* hi, const double* lo, int64_t n) {
  Zip(
      n, [](float& sum, const double& hi, const double& lo) { sum = static_cast<float>(hi + lo); },
      sum, hi, lo);
}

template <typename T>
void CopyBytes(const Tensor& destination, const Tensor& source, const CopyLayout& layout) {
  const int64_t n = destination.numel();
  Launch(destination.device(), ElementLaunch(n), CopyKernel<T, T>,
         static_cast<T*>(destination.raw()), static_cast<const T*>(source.raw()), n, layout);
}

// The same dtype: which one does not matter.
void CopySame(const Tensor& destination, const Tensor& source) {
  if (destination.contiguous() && source.contiguous()) {
    Device& device = destination.device();
    return device.Copy(destination.raw(), source.raw(), source.bytes(), device.compute_stream());
  }
  const CopyLayout layout = MakeCopyLayout(destination, source);
  switch (DTypeSize(destination.dtype())) {
    case 1:
      return CopyBytes<uint8_t>(destination, source, layout);
    case 2:
      return CopyBytes<uint16_t>(destination, source, layout);
    case 4:
      return CopyBytes<uint32_t>(destination, source, layout);
    default:
      return CopyBytes<uint64_t>(destination, source, layout);
  }
}

}  // namespace

void FillZero(const Tensor& destination) {
  CheckCuda(cudaMemsetAsync(destination.raw(), 0, destination.bytes(),
                            AsCuda(destination.device()).native_stream()),
            "cudaMemsetAsync");
}

void Fill(const Tensor& destination, double value) {
  const int64_t n = destination.numel();
  Device& device = destination.device();
  if (destination.dtype() == DType::kFloat64) {
    return Launch(device, PackLaunch(n), FillKernel<double>, destination.data<double>(), n, value);
  }
  DispatchFloating("Fill", destination.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(device, PackLaunch(n), FillKernel<T>, destination.data<T>(), n,
           T(static_cast<float>(value)));
  });
}

void CopyTo(const Tensor& destination, const Tensor& source) {
  if (destination.dtype() == source.dtype()) return CopySame(destination, source);
  const int64_t n = destination.numel();
  const bool contiguous = destination.contiguous() && source.contiguous();
  const CopyLayout layout = MakeCopyLayout(destination, source);
  DispatchFloating("CopyTo", destination.dtype(), [&](auto d_zero) {
    DispatchFloating("CopyTo", source.dtype(), [&](auto s_zero) {
      using D = decltype(d_zero);
      using S = decltype(s_zero);
      if (contiguous) {
        return Launch(destination.device(), PackLaunch(n), ConvertKernel<D, S>,
                      destination.data<D>(), source.data<S>(), n);
      }
      Launch(destination.device(), ElementLaunch(n), CopyKernel<D, S>, destination.data<D>(),
             source.data<S>(), n, layout);
    });
  });
}

void AddTo(const Tensor& destination, const Tensor& source) {
  const int64_t n = destination.numel();
  Device& device = destination.device();
  if (destination.dtype() == DType::kFloat64) {
    return Launch(device, PackLaunch(n), AddToKernel<double, double>, destination.data<double>(),
                  source.data<double>(), n);
  }
  DispatchFloating("AddTo", destination.dtype(), [&](auto d_zero) {
    DispatchFloating("AddTo", source.dtype(), [&](auto s_zero) {
      using D = decltype(d_zero);
      using S = decltype(s_zero);
      Launch(device, PackLaunch(n), AddToKernel<D, S>, destination.data<D>(), source.data<S>(), n);
    });
  });
}

void Scale(const Tensor& destination, double factor) {
  const int64_t n = destination.numel();
  Device& device = destination.device();
  if (destination.dtype() == DType::kFloat64) {
    return Launch(device, PackLaunch(n), ScaleKernel<double, double>, destination.data<double>(), n,
                  factor);
  }
  DispatchFloating("Scale", destination.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(device, PackLaunch(n), ScaleKernel<T, float>, destination.data<T>(), n,
           static_cast<float>(factor));
  });
}

void Add(const Tensor& out, const Tensor& a, const Tensor& b) {
  DispatchFloating("Add", out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(out.device(), PackLaunch(out.numel()), AddKernel<T>, out.data<T>(), a.data<T>(),
           b.data<T>(), out.numel());
  });
}

void ExactAddTo(const Tensor& hi, const Tensor& lo, const Tensor& term, double factor) {
  DispatchFloating("ExactAddTo", term.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Launch(hi.device(), PackLaunch(term.numel()), ExactAddKernel<T>, hi.data<double>(),
           lo.data<double>(), term.data<T>(), term.numel(), factor);
  });
}

void ExactToFloat(const Tensor& sum, const Tensor& hi, const Tensor& lo) {
  Launch(sum.device(), PackLaunch(sum.numel()), ExactToFloatKernel, sum.data<float>(),
         hi.data<double>(), lo.data<double>(), sum.numel());
}

}  // namespace cairn::cuda
