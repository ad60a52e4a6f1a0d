#include "runtime/tensor/elementwise.h"

#include <glog/logging.h>

#include <cstring>

#include "runtime/tensor/dispatch.h"
#include "runtime/tensor/elementwise_cpu.h"
#include "runtime/tensor/elementwise_cuda.h"

namespace cairn {
void FillZero(const Tensor& destination) {
  CHECK(destination.contiguous());
  if (destination.numel() == 0) return;
  Dispatch(
      "FillZero", destination, [&] { std::memset(destination.raw(), 0, destination.bytes()); },
      [&] { cuda::FillZero(destination); });
}

void Fill(const Tensor& destination, double value) {
  CHECK(destination.contiguous());
  Dispatch(
      "Fill", destination, [&] { cpu::Fill(destination, value); },
      [&] { cuda::Fill(destination, value); });
}

void CopyTo(const Tensor& destination, const Tensor& source) {
  CHECK(destination.shape() == source.shape())
      << destination.shape().ToString() << " from " << source.shape().ToString();
  Dispatch(
      "CopyTo", destination,
      [&] {
        destination.dtype() == source.dtype() ? cpu::CopyBytesStrided(destination, source)
                                              : cpu::CopyTo(destination, source);
      },
      [&] { cuda::CopyTo(destination, source); });
}

Tensor ContiguousCopy(const Tensor& source) {
  Tensor copy = source.EmptyLike();
  CopyTo(copy, source);
  return copy;
}

void AddTo(const Tensor& destination, const Tensor& source) {
  CHECK(destination.contiguous() && source.contiguous());
  CHECK_EQ(destination.numel(), source.numel());
  Dispatch(
      "AddTo", destination, [&] { cpu::AddTo(destination, source); },
      [&] { cuda::AddTo(destination, source); });
}

void Scale(const Tensor& destination, double factor) {
  CHECK(destination.contiguous());
  Dispatch(
      "Scale", destination, [&] { cpu::Scale(destination, factor); },
      [&] { cuda::Scale(destination, factor); });
}

void Add(const Tensor& out, const Tensor& a, const Tensor& b) {
  CHECK(out.contiguous() && a.contiguous() && b.contiguous());
  CHECK(out.numel() == a.numel() && a.numel() == b.numel());
  CHECK(out.dtype() == a.dtype() && a.dtype() == b.dtype());
  Dispatch(
      "Add", out, [&] { cpu::Add(out, a, b); }, [&] { cuda::Add(out, a, b); });
}

}  // namespace cairn
