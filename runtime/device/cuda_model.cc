#include <cuda_runtime_api.h>

#include "runtime/device/cuda_call.h"
#include "runtime/device/device.h"

namespace cairn {

std::string CudaModelName(int index) {
  cudaDeviceProp properties;
  CheckCuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties.name;
}

}  // namespace cairn
