#pragma once

#include <cuda_runtime_api.h>

namespace cairn {

/// Throws unless `code` is success: Error(kDevice), or kOutOfMemory, with the call, its place in
/// the source, the GPU and CUDA's text. Work on a GPU fails behind the host's back: the call that
/// reports it may be a later one.
void CheckCuda(cudaError_t code, const char* call, const char* file = __builtin_FILE(),
               int line = __builtin_LINE());

/// The same where nothing can be thrown: logs.
void LogCuda(cudaError_t code, const char* call) noexcept;

}  // namespace cairn
