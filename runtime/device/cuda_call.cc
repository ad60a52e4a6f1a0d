#include "runtime/device/cuda_call.h"

#include <glog/logging.h>

#include <cstring>
#include <string>

#include "runtime/base/error.h"

namespace cairn {
namespace {

// "runtime/device/cuda_device.cc": paths of the build machine say nothing to a user.
const char* InTree(const char* file) {
  for (const char* floor : {"runtime/", "parallel/"}) {
    if (const char* found = std::strstr(file, floor)) return found;
  }
  return file;
}

}  // namespace

void CheckCuda(cudaError_t code, const char* call, const char* file, int line) {
  if (code == cudaSuccess) return;
  int device = -1;
  // Only to name it; an error here is that same error.
  (void)cudaGetDevice(&device);
  // The error is this exception's from here on; one that the GPU cannot recover from comes again.
  (void)cudaGetLastError();
  Throw(code == cudaErrorMemoryAllocation ? ErrorKind::kOutOfMemory : ErrorKind::kDevice,
        fmt::format("cuda:{} {} ({}:{})", device, call, InTree(file), line), "{} ({})",
        cudaGetErrorString(code), cudaGetErrorName(code));
}

void LogCuda(cudaError_t code, const char* call) noexcept {
  if (code == cudaSuccess) return;
  (void)cudaGetLastError();
  LOG(ERROR) << call << ": " << cudaGetErrorString(code);
}

}  // namespace cairn
