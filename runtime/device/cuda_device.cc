#include "runtime/device/cuda_device.h"

#include <glog/logging.h>
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCudaRt.h>

#include <array>

#include "runtime/base/error.h"
#include "runtime/device/cuda_call.h"

namespace cairn {
namespace {

class CudaAllocator : public Allocator {
 public:
  explicit CudaAllocator(int device) : device_(device) {}
  ~CudaAllocator() override { ReleaseCache(); }

 protected:
  void* RawAllocate(size_t bytes) override {
    CheckCuda(cudaSetDevice(device_), "cudaSetDevice");
    void* pointer = nullptr;
    const cudaError_t code = cudaMalloc(&pointer, bytes);
    if (code == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // told by the null pointer
      return nullptr;
    }
    CheckCuda(code, "cudaMalloc");
    return pointer;
  }
  // Waits for all work of the GPU, so that none still uses the block.
  void RawFree(void* pointer, size_t) noexcept override { LogCuda(cudaFree(pointer), "cudaFree"); }

 private:
  int device_;
};

class PinnedAllocator : public Allocator {
 public:
  ~PinnedAllocator() override { ReleaseCache(); }

 protected:
  void* RawAllocate(size_t bytes) override {
    void* pointer = nullptr;
    const cudaError_t code = cudaHostAlloc(&pointer, bytes, cudaHostAllocDefault);
    if (code == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return nullptr;
    }
    CheckCuda(code, "cudaHostAlloc");
    return pointer;
  }
  void RawFree(void* pointer, size_t) noexcept override {
    LogCuda(cudaFreeHost(pointer), "cudaFreeHost");
  }
};

// The CPU, with memory that GPUs copy from and to without a detour.
class PinnedHostDevice : public Device {
 public:
  PinnedHostDevice() : Device(DeviceKind::kCpu, 0), cpu_(NewCpuDevice()) {}
  Allocator& allocator() override { return allocator_; }
  Stream& compute_stream() override { return cpu_->compute_stream(); }
  std::unique_ptr<Stream> NewStream(const std::string& name) override {
    return cpu_->NewStream(name);
  }
  std::unique_ptr<Device> NewHostDevice() override { return std::make_unique<PinnedHostDevice>(); }
  void Copy(void* destination, const void* source, size_t bytes, Stream& stream) override {
    cpu_->Copy(destination, source, bytes, stream);
  }

 private:
  std::unique_ptr<Device> cpu_;
  PinnedAllocator allocator_;
};

class CudaEventState : public Event::State {
 public:
  explicit CudaEventState(cudaStream_t stream) {
    CheckCuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
    const cudaError_t code = cudaEventRecord(event_, stream);
    if (code != cudaSuccess) Destroy();
    CheckCuda(code, "cudaEventRecord");
  }
  ~CudaEventState() override { Destroy(); }
  CudaEventState(const CudaEventState&) = delete;
  CudaEventState& operator=(const CudaEventState&) = delete;

  void Synchronize() override { CheckCuda(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
  bool Happened() const {
    const cudaError_t code = cudaEventQuery(event_);
    if (code != cudaErrorNotReady) CheckCuda(code, "cudaEventQuery");
    return code == cudaSuccess;
  }
  cudaEvent_t native() const { return event_; }

 private:
  void Destroy() noexcept { LogCuda(cudaEventDestroy(event_), "cudaEventDestroy"); }

  cudaEvent_t event_ = nullptr;
};

int Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  CheckCuda(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

CudaStream::CudaStream(CudaDevice& device, const std::string& name) : device_(&device) {
  CheckCuda(cudaSetDevice(device.index()), "cudaSetDevice");
  CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  nvtxNameCudaStreamA(stream_, name.c_str());
  const std::lock_guard<std::mutex> lock(device.streams_mutex_);
  device.streams_.push_back(this);
}

CudaStream::~CudaStream() {
  {
    const std::lock_guard<std::mutex> lock(device_->streams_mutex_);
    std::erase(device_->streams_, this);
  }
  LogCuda(cudaStreamDestroy(stream_), "cudaStreamDestroy");
}

bool CudaStream::records() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CheckCuda(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
  return status == cudaStreamCaptureStatusActive;
}

void CudaStream::Run(std::function<void()> work) {
  Synchronize();
  work();
}

Event CudaStream::Record() {
  CheckCuda(cudaSetDevice(device_->index()), "cudaSetDevice");
  return Event(std::make_shared<CudaEventState>(stream_));
}

void CudaStream::Wait(const Event& event) {
  const auto* recorded = dynamic_cast<const CudaEventState*>(event.state().get());
  if (recorded == nullptr) return event.Synchronize();
  CheckCuda(cudaStreamWaitEvent(stream_, recorded->native(), 0), "cudaStreamWaitEvent");
}

void CudaStream::Synchronize() {
  CheckCuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
}

bool HasHappened(const Event& event) {
  const auto* recorded = dynamic_cast<const CudaEventState*>(event.state().get());
  if (recorded != nullptr) return recorded->Happened();
  event.Synchronize();
  return true;
}

CudaDevice::CudaDevice(int index) : Device(DeviceKind::kCuda, index) {
  const int count = CountCudaDevices();
  if (index < 0 || index >= count) {
    Throw(ErrorKind::kDevice, fmt::format("cuda:{}", index), "this process sees {}{}",
          count == 0 ? "no GPU"
                     : fmt::format("{} GPU{}, from cuda:0 on", count, count > 1 ? "s" : ""),
          count == 0 ? ": `cairn doctor` says more; train.device: \"cpu\" needs none" : "");
  }
  CheckCuda(cudaSetDevice(index), "cudaSetDevice");
  std::array<char, 32> bus_id{};
  CheckCuda(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), index),
            "cudaDeviceGetPCIBusId");
  pci_bus_id_ = bus_id.data();
  num_multiprocessors_ = Attribute(cudaDevAttrMultiProcessorCount, index);
  max_shared_bytes_ =
      static_cast<size_t>(Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
  allocator_ = std::make_unique<CudaAllocator>(index);
  compute_stream_ = std::make_unique<CudaStream>(*this, "compute");
}

CudaDevice::~CudaDevice() {
  LogCuda(cudaStreamSynchronize(compute_stream_->native()), "cudaStreamSynchronize");
  states_.clear();
}

std::unique_ptr<Stream> CudaDevice::NewStream(const std::string& name) {
  return std::make_unique<CudaStream>(*this, name);
}

std::vector<CudaStream*> CudaDevice::RecordingStreams() {
  const std::lock_guard<std::mutex> lock(streams_mutex_);
  std::vector<CudaStream*> recording;
  for (CudaStream* stream : streams_) {
    if (stream != compute_stream_.get() && stream->records()) recording.push_back(stream);
  }
  return recording;
}

std::unique_ptr<Device> CudaDevice::NewHostDevice() { return std::make_unique<PinnedHostDevice>(); }

void CudaDevice::Copy(void* destination, const void* source, size_t bytes, Stream& stream) {
  if (bytes == 0) return;
  CheckCuda(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDefault, NativeStream(stream)),
            "cudaMemcpyAsync");
}

void CudaDevice::BeginRange(const char* name) { nvtxRangePushA(name); }
void CudaDevice::EndRange() { nvtxRangePop(); }

CudaDevice& AsCuda(Device& device) {
  CHECK(device.kind() == DeviceKind::kCuda) << DeviceKindName(device.kind());
  return static_cast<CudaDevice&>(device);
}

cudaStream_t NativeStream(Stream& stream) {
  const auto* cuda = dynamic_cast<const CudaStream*>(&stream);
  CHECK(cuda != nullptr) << "a GPU's work was given to a host stream";
  return cuda->native();
}

std::unique_ptr<Device> NewCudaDevice(int index) { return std::make_unique<CudaDevice>(index); }

int CountCudaDevices() {
  int count = 0;
  // Without a driver, or with one that is too old, the call fails and leaves its argument alone.
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

}  // namespace cairn
