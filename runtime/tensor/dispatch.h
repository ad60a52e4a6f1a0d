#pragma once

#include <utility>

#include "runtime/base/error.h"
#include "runtime/tensor/tensor.h"

namespace cairn {

inline constexpr bool kWithCuda = CAIRN_WITH_CUDA != 0;  // see CMakeLists.txt

/// Where an op's kernel runs, decided by the device of `tensor`: on cpu it calls `on_cpu`, on cuda
/// `on_cuda`; on meta nothing is to be done, since the outputs are allocated already. In a build
/// without CUDA `on_cuda` is never instantiated, so that it may name kernels that do not exist
/// there. On cpu the device's clock counts the time for `op`, a literal; on cuda a profiler's
/// ranges do, since the host only launches there.
template <typename OnCpu, typename OnCuda>
void Dispatch(const char* op, const Tensor& tensor, OnCpu&& on_cpu, OnCuda&& on_cuda) {
  switch (tensor.device().kind()) {
    case DeviceKind::kCpu: {
      const OpClock::Scope scope(tensor.device().op_clock(), op);
      std::forward<OnCpu>(on_cpu)();
      return;
    }
    case DeviceKind::kMeta:
      return;
    case DeviceKind::kCuda:
      if constexpr (kWithCuda) {
        const DeviceRange range(tensor.device(), op);
        std::forward<OnCuda>(on_cuda)();
        return;
      }
      break;
  }
  Throw(ErrorKind::kDevice, op, "no {} kernel in this build",
        DeviceKindName(tensor.device().kind()));
}

}  // namespace cairn
