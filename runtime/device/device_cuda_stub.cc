// Stands in for the GPU backend in a build without it: asking for a GPU is an error, never silence.
#include "runtime/base/error.h"
#include "runtime/device/device.h"

namespace cairn {

std::unique_ptr<Device> NewCudaDevice(int index) {
  Throw(ErrorKind::kDevice, fmt::format("cuda:{}", index),
        "this build of Cairn has no CUDA backend; use train.device: \"cpu\"");
}

int CountCudaDevices() { return 0; }

std::string CudaModelName(int index) {
  Throw(ErrorKind::kInternal, fmt::format("cuda:{}", index), "named in a build without CUDA");
}

}  // namespace cairn
