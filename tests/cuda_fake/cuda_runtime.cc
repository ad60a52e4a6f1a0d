// What Cairn calls of the CUDA runtime, and what nvcc's code does at the start of a program.

#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "machine.h"

using cairn::fake::Access;
using cairn::fake::kToEnd;
using cairn::fake::Machine;
using cairn::fake::Record;
using cairn::fake::Stream;

namespace {

// A kernel as its signature tells it: which parameters are pointers, and which of them to const.
struct Kernel {
  enum class Parameter { kValue, kRead, kWritten };
  std::string name;
  std::vector<Parameter> parameters;
};

std::map<const void*, Kernel>& Kernels() {
  static auto* const kernels = new std::map<const void*, Kernel>;
  return *kernels;
}

std::string Demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  return status == 0 ? text.get() : name;
}

// "void ns::Copy<float, float>(float*, float const*, long)", whose names may hold parentheses too.
Kernel ParseKernel(const std::string& signature) {
  Kernel kernel;
  size_t open = signature.size() - 1;
  int depth = 0;
  std::vector<size_t> ends = {open};
  for (;; --open) {
    const char c = signature[open];
    if (c == ')' || c == '>') ++depth;
    if (c == '(' || c == '<') --depth;
    if (c == ',' && depth == 1) ends.push_back(open);
    if (depth == 0 || open == 0) break;
  }
  const size_t scope =
      signature.rfind("::", signature.find('<') < open ? signature.find('<') : open);
  kernel.name = signature.substr(scope == std::string::npos ? 0 : scope + 2,
                                 open - (scope == std::string::npos ? 0 : scope + 2));
  size_t begin = open + 1;
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    std::string_view type(signature.data() + begin, *end - begin);
    begin = *end + 1;
    if (type.empty() || type.back() != '*') {
      kernel.parameters.push_back(Kernel::Parameter::kValue);
    } else {
      kernel.parameters.push_back(type.ends_with("const*") ? Kernel::Parameter::kRead
                                                           : Kernel::Parameter::kWritten);
    }
  }
  return kernel;
}

uintptr_t Handle(const void* handle) { return reinterpret_cast<uintptr_t>(handle); }

thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string unjoined;  // the stream that a capture's end did not find joined

cudaError_t Result(cudaError_t code) {
  if (code != cudaSuccess) last_error = code;
  return code;
}

// What a wait that can have no end comes back with.
cudaError_t Ended(bool well) { return Result(well ? cudaSuccess : cudaErrorLaunchFailure); }

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* stub, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  Kernels()[stub] = ParseKernel(Demangled(name));
}
// Of `kernel<<<...>>>`, which Cairn does not use: Launch() calls cudaLaunchKernel.
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaErrorUnknown; }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaErrorUnknown; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  return cudaErrorUnknown;
}

const char* cudaGetErrorName(cudaError_t code) {
  return code == cudaSuccess ? "cudaSuccess" : "cudaErrorOfTheFake";
}
const char* cudaGetErrorString(cudaError_t code) {
  thread_local std::string text;
  switch (code) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnjoined:
      text = "the capture has not waited for " + unjoined;
      return text.c_str();
    default:
      return "the fake GPU's report says more";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  const auto lock = Machine::Get().Lock();
  *count = Machine::Get().devices();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().current_device() = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  const auto lock = Machine::Get().Lock();
  *device = Machine::Get().current_device();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  std::snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  // An H100's.
  static const std::map<cudaDeviceAttr, int> values = {
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 227 << 10},
      {cudaDevAttrMultiProcessorCount, 132},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrComputeCapabilityMinor, 0},
  };
  const auto found = values.find(attribute);
  if (found == values.end()) return Result(cudaErrorInvalidValue);
  *value = found->second;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "Fake GPU");
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int) {
  return Result(Kernels().contains(kernel) ? cudaSuccess : cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const auto lock = Machine::Get().Lock();
  *memory = Machine::Get().Counted("cudaMalloc") ? Machine::Get().Allocate(bytes, true) : nullptr;
  return Result(*memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  const auto lock = Machine::Get().Lock();
  *memory =
      Machine::Get().Counted("cudaHostAlloc") ? Machine::Get().Allocate(bytes, false) : nullptr;
  return Result(*memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* memory) {
  auto lock = Machine::Get().Lock();
  (void)Machine::Get().WaitForDevice(lock, "cudaFree");
  Machine::Get().Free(memory);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const auto lock = Machine::Get().Lock();
  if (flags != cudaStreamNonBlocking) {
    Machine::Get().Problem("a stream that the legacy stream orders");
  }
  *stream = reinterpret_cast<cudaStream_t>(Machine::Get().NewStream());
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().DestroyStream(Handle(stream));
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  auto lock = Machine::Get().Lock();
  Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaStreamSynchronize");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (Machine::Get().Refused(*stream, "cudaStreamSynchronize")) {
    return Result(cudaErrorStreamCaptureUnsupported);
  }
  if (!Machine::Get().Counted("cudaStreamSynchronize")) return cudaSuccess;
  const auto record = Machine::Get().RecordOn(*stream);
  return Ended(Machine::Get().WaitForRecord(lock, "cudaStreamSynchronize", *record));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const auto lock = Machine::Get().Lock();
  Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaStreamWaitEvent");
  const auto* record = Machine::Get().FindEvent(Handle(event), "cudaStreamWaitEvent");
  if (stream == nullptr || record == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (*record == nullptr) {
    Machine::Get().Problem("cudaStreamWaitEvent for an event that was never recorded");
  } else if (Machine::Get().Counted("cudaStreamWaitEvent")) {
    Machine::Get().WaitOn(*stream, *record);
  } else {
    Machine::Get().DoNotWaitOn(*stream);
  }
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const auto lock = Machine::Get().Lock();
  if (mode != cudaStreamCaptureModeRelaxed) {
    Machine::Get().Problem("a capture in which no memory may be taken, nor other threads ask");
  }
  Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaStreamBeginCapture");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  return Result(Machine::Get().BeginCapture(*stream) ? cudaSuccess : cudaErrorIllegalState);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const auto lock = Machine::Get().Lock();
  const Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaStreamIsCapturing");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  *status = stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const auto lock = Machine::Get().Lock();
  Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaStreamEndCapture");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  unjoined.clear();
  *graph = reinterpret_cast<cudaGraph_t>(Machine::Get().EndCapture(*stream, &unjoined));
  if (!unjoined.empty()) return Result(cudaErrorStreamCaptureUnjoined);
  return Result(*graph != nullptr ? cudaSuccess : cudaErrorIllegalState);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const auto lock = Machine::Get().Lock();
  const bool granted = Machine::Get().Counted("cudaGraphInstantiate");
  *exec = granted ? reinterpret_cast<cudaGraphExec_t>(Machine::Get().Instantiate(Handle(graph)))
                  : nullptr;
  return Result(*exec != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  const auto lock = Machine::Get().Lock();
  Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaGraphLaunch");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (!Machine::Get().Counted("cudaGraphLaunch")) return cudaSuccess;
  return Result(Machine::Get().LaunchGraph(Handle(exec), *stream) ? cudaSuccess
                                                                  : cudaErrorInvalidValue);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().DestroyGraph(Handle(graph), "cudaGraphDestroy");
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().DestroyGraph(Handle(exec), "cudaGraphExecDestroy");
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const auto lock = Machine::Get().Lock();
  *event = reinterpret_cast<cudaEvent_t>(Machine::Get().NewEvent());
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().DestroyEvent(Handle(event));
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const auto lock = Machine::Get().Lock();
  Stream* const stream = Machine::Get().FindStream(Handle(handle), "cudaEventRecord");
  auto* const record = Machine::Get().FindEvent(Handle(event), "cudaEventRecord");
  if (stream == nullptr || record == nullptr) return Result(cudaErrorInvalidResourceHandle);
  *record = Machine::Get().RecordOn(*stream);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  auto lock = Machine::Get().Lock();
  const auto* found = Machine::Get().FindEvent(Handle(event), "cudaEventSynchronize");
  if (found == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Record> record = *found;
  if (record == nullptr || !Machine::Get().Counted("cudaEventSynchronize")) return cudaSuccess;
  if (record->capture) {
    Machine::Get().Problem("cudaEventSynchronize with an event of a capture");
    return Result(cudaErrorCapturedEvent);
  }
  return Ended(Machine::Get().WaitForRecord(lock, "cudaEventSynchronize", *record));
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto lock = Machine::Get().Lock();
  const auto* record = Machine::Get().FindEvent(Handle(event), "cudaEventQuery");
  if (record == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (Machine::Get().stopped()) return Result(cudaErrorLaunchFailure);
  if (*record != nullptr && (*record)->capture) {
    Machine::Get().Problem("cudaEventQuery with an event of a capture");
    return Result(cudaErrorCapturedEvent);
  }
  return *record == nullptr || Machine::Get().Tell(**record) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t handle) {
  const auto lock = Machine::Get().Lock();
  Machine& machine = Machine::Get();
  Stream* const stream = machine.FindStream(Handle(handle), "cudaMemcpyAsync");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const auto staged = std::make_shared<std::vector<std::byte>>(bytes);
  const bool from_device = machine.OnDevice(from);
  const bool to_device = machine.OnDevice(to);
  if ((!from_device || !to_device) && machine.Refused(*stream, "a copy from or to the host")) {
    return Result(cudaErrorStreamCaptureUnsupported);
  }
  // The runtime takes a copy of the host's memory before it returns.
  if (!from_device) std::memcpy(staged->data(), from, bytes);
  machine.Give(
      *stream,
      {.what = from_device ? (to_device ? "a copy" : "a copy to the host") : "a copy from the host",
       .ready = nullptr,
       .run =
           [=, &machine] {
             if (from_device) std::memcpy(staged->data(), machine.Bytes(from), bytes);
             if (to_device) std::memcpy(machine.Bytes(to), staged->data(), bytes);
           }},
      {{from, bytes, false}, {to, bytes, true}});
  if (!to_device) machine.Land(*stream, to, staged);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t handle) {
  const auto lock = Machine::Get().Lock();
  Machine& machine = Machine::Get();
  Stream* const stream = machine.FindStream(Handle(handle), "cudaMemsetAsync");
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  machine.Give(*stream,
               {.what = "cudaMemsetAsync",
                .ready = nullptr,
                .run = [=, &machine] { std::memset(machine.Bytes(memory), value, bytes); }},
               {{memory, bytes, true}});
  return cudaSuccess;
}

// A kernel uses its memory from each pointer to the end of the allocation, and computes nothing.
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t handle) {
  const auto lock = Machine::Get().Lock();
  Machine& machine = Machine::Get();
  Stream* const stream = machine.FindStream(Handle(handle), "cudaLaunchKernel");
  const auto found = Kernels().find(function);
  if (stream == nullptr || found == Kernels().end()) {
    return Result(cudaErrorInvalidDeviceFunction);
  }
  if (!machine.Counted("cudaLaunchKernel")) return cudaSuccess;
  const Kernel& kernel = found->second;
  if (grid.x == 0 || block.x == 0 || block.x > 1024 || shared_bytes > (size_t{227} << 10)) {
    machine.Problem(fmt::format("{} with {} blocks of {} threads", kernel.name, grid.x, block.x));
    return Result(cudaErrorInvalidConfiguration);
  }
  std::vector<Access> accesses;
  for (size_t i = 0; i < kernel.parameters.size(); ++i) {
    if (kernel.parameters[i] == Kernel::Parameter::kValue) continue;
    accesses.push_back({*static_cast<void**>(arguments[i]), kToEnd,
                        kernel.parameters[i] == Kernel::Parameter::kWritten});
  }
  machine.Give(*stream, {.what = kernel.name, .ready = nullptr, .run = nullptr}, accesses);
  return cudaSuccess;
}

}  // extern "C"
