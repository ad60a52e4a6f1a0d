#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <typeindex>
#include <vector>

#include "runtime/device/device.h"

namespace cairn {

class CudaDevice;

/// A stream of a GPU: non-blocking, so that the legacy stream orders nothing behind our back.
class CudaStream : public Stream {
 public:
  /// `device`, which must outlive it, knows it while it lives.
  CudaStream(CudaDevice& device, const std::string& name);
  ~CudaStream() override;

  /// Waits for the stream, then runs `work` on the calling thread.
  void Run(std::function<void()> work) override;
  Event Record() override;
  /// An event of another kind of stream is waited for by the host.
  void Wait(const Event& event) override;
  void Synchronize() override;

  /// Whether what it is given now becomes part of a graph.
  bool records() const;
  cudaStream_t native() const { return stream_; }

 private:
  CudaDevice* device_;
  cudaStream_t stream_ = nullptr;
};

/// True once all work before `event`, of any kind of stream, is done; never waits for a GPU.
bool HasHappened(const Event& event);

/// One GPU. Blocks of its allocator are handed out again in the order of the compute stream: who
/// uses memory on another stream orders that stream by events, and holds the tensors until done.
class CudaDevice : public Device {
 public:
  explicit CudaDevice(int index);
  ~CudaDevice() override;

  Allocator& allocator() override { return *allocator_; }
  Stream& compute_stream() override { return *compute_stream_; }
  std::unique_ptr<Stream> NewStream(const std::string& name) override;
  std::unique_ptr<Device> NewHostDevice() override;
  void Copy(void* destination, const void* source, size_t bytes, Stream& stream) override;
  std::string hardware_id() const override { return pci_bus_id_; }
  void BeginRange(const char* name) override;
  void EndRange() override;
  std::unique_ptr<Replay> Capture(const std::function<void()>& work) override;

  /// The number of the recording that the compute stream is in; 0: none. No event of a recording
  /// can be asked for.
  int64_t recording() const { return replayed_step_ == nullptr ? 0 : recordings_; }
  /// Where kernels find the step of their RandomKeys: null, but while work is recorded, which will
  /// run in other steps too.
  const uint32_t* replayed_step() const { return replayed_step_; }
  void BeginRecording(const uint32_t* step) {
    replayed_step_ = step;
    ++recordings_;
  }
  void EndRecording() { replayed_step_ = nullptr; }
  /// The streams beside the compute stream that record.
  std::vector<CudaStream*> RecordingStreams();

  cudaStream_t native_stream() const { return compute_stream_->native(); }
  int num_multiprocessors() const { return num_multiprocessors_; }
  size_t max_shared_bytes() const { return max_shared_bytes_; }  ///< of one block

  /// What a room above keeps with this GPU (library handles, caches): one T, made when first asked
  /// for from this device, and destroyed with it.
  template <typename T>
  T& State() {
    const std::lock_guard<std::mutex> lock(states_mutex_);
    std::shared_ptr<void>& state = states_[typeid(T)];
    if (state == nullptr) state = std::make_shared<T>(*this);
    return *static_cast<T*>(state.get());
  }

 private:
  friend class CudaStream;

  std::string pci_bus_id_;
  int num_multiprocessors_ = 0;
  size_t max_shared_bytes_ = 0;
  const uint32_t* replayed_step_ = nullptr;
  int64_t recordings_ = 0;
  std::mutex streams_mutex_;
  std::vector<CudaStream*> streams_;  // that live
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<CudaStream> compute_stream_;
  std::mutex states_mutex_;
  std::map<std::type_index, std::shared_ptr<void>> states_;
};

/// `device` as a GPU; it must be one.
CudaDevice& AsCuda(Device& device);

/// The native stream behind `stream`, which must be a GPU's.
cudaStream_t NativeStream(Stream& stream);

}  // namespace cairn
