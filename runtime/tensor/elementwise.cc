#include "runtime/tensor/elementwise.h"

#include <glog/logging.h>

#include <cstring>

#include "runtime/base/error.h"
#include "runtime/tensor/elementwise_cpu.h"

namespace cairn {
namespace {

// True where the CPU kernel is to run; false on meta.
bool RunsOnCpu(const char* op, const Tensor& tensor) {
  switch (tensor.device().kind()) {
    case DeviceKind::kCpu:
      return true;
    case DeviceKind::kMeta:
      return false;
    case DeviceKind::kCuda:
      break;
  }
  Throw(ErrorKind::kDevice, op, "no {} kernel in this build",
        DeviceKindName(tensor.device().kind()));
}

}  // namespace

void FillZero(const Tensor& destination) {
  CHECK(destination.contiguous());
  if (!RunsOnCpu("FillZero", destination) || destination.numel() == 0) return;
  std::memset(destination.raw(), 0, destination.bytes());
}

void Fill(const Tensor& destination, double value) {
  CHECK(destination.contiguous());
  if (RunsOnCpu("Fill", destination)) cpu::Fill(destination, value);
}

void CopyTo(const Tensor& destination, const Tensor& source) {
  CHECK(destination.shape() == source.shape())
      << destination.shape().ToString() << " from " << source.shape().ToString();
  if (!RunsOnCpu("CopyTo", destination)) return;
  if (destination.dtype() == source.dtype()) {
    cpu::CopyBytesStrided(destination, source);
  } else {
    cpu::CopyTo(destination, source);
  }
}

Tensor ContiguousCopy(const Tensor& source) {
  Tensor copy = source.EmptyLike();
  CopyTo(copy, source);
  return copy;
}

void AddTo(const Tensor& destination, const Tensor& source) {
  CHECK(destination.contiguous() && source.contiguous());
  CHECK_EQ(destination.numel(), source.numel());
  if (RunsOnCpu("AddTo", destination)) cpu::AddTo(destination, source);
}

void Scale(const Tensor& destination, double factor) {
  CHECK(destination.contiguous());
  if (RunsOnCpu("Scale", destination)) cpu::Scale(destination, factor);
}

void Add(const Tensor& out, const Tensor& a, const Tensor& b) {
  CHECK(out.contiguous() && a.contiguous() && b.contiguous());
  CHECK(out.numel() == a.numel() && a.numel() == b.numel());
  CHECK(out.dtype() == a.dtype() && a.dtype() == b.dtype());
  if (RunsOnCpu("Add", out)) cpu::Add(out, a, b);
}

}  // namespace cairn
