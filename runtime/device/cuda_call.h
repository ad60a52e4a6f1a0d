#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

namespace cairn {

/// Throws unless `code` is success: Error(kDevice), or kOutOfMemory, with the call, its place in
/// the source, the GPU and CUDA's text. Work on a GPU fails behind the host's back: the call that
/// reports it may be a later one.
void CheckCuda(cudaError_t code, const char* call,
               std::source_location place = std::source_location::current());

/// The same where nothing can be thrown: logs.
void LogCuda(cudaError_t code, const char* call) noexcept;

}  // namespace cairn
