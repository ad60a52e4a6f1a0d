#pragma once

#include <type_traits>

#include "runtime/device/cuda_call.h"
#include "runtime/device/cuda_device.h"
#include "runtime/tensor/launch_shape.h"

namespace cairn {

/// Runs `kernel` on the compute stream of `device`, which must be a GPU. Memory that a kernel uses
/// is among its parameters as plain pointers, to const where it only reads, never inside a struct:
/// what a launch touches can be told from its signature.
template <typename... P>
void Launch(Device& device, const LaunchShape& shape, void (*kernel)(P...),
            std::type_identity_t<P>... arguments) {
  if (shape.blocks == 0) return;
  void* pointers[] = {&arguments...};
  CheckCuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(shape.blocks),
                             dim3(shape.threads), pointers, shape.shared_bytes,
                             AsCuda(device).native_stream()),
            "cudaLaunchKernel");
}

}  // namespace cairn
