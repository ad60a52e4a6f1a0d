#pragma once

#include <utility>

#include "runtime/base/error.h"
#include "runtime/tensor/tensor.h"

namespace cairn {

/// Where an op's kernel runs, decided by the device of `tensor`: on cpu it calls `run`; on meta
/// nothing is to be done, since the outputs are allocated already. The device's clock counts the
/// time for `op`, a literal. Throws Error(kDevice) where `op` has no kernel.
template <typename F>
void OnCpu(const char* op, const Tensor& tensor, F&& run) {
  switch (tensor.device().kind()) {
    case DeviceKind::kCpu: {
      const OpClock::Scope scope(tensor.device().op_clock(), op);
      std::forward<F>(run)();
      return;
    }
    case DeviceKind::kMeta:
      return;
    case DeviceKind::kCuda:
      break;
  }
  Throw(ErrorKind::kDevice, op, "no {} kernel in this build",
        DeviceKindName(tensor.device().kind()));
}

}  // namespace cairn
