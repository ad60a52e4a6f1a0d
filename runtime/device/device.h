#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "runtime/device/allocator.h"
#include "runtime/device/op_clock.h"
#include "runtime/device/stream.h"

namespace cairn {

enum class DeviceKind : uint8_t { kCpu, kCuda, kMeta };

/// "cpu", "cuda", "meta".
const char* DeviceKindName(DeviceKind kind);

/// Work that was recorded once, to be given to its device again at the cost of one call: the same
/// kernels, with the same arguments, on the same memory.
class Replay {
 public:
  virtual ~Replay() = default;
  /// Gives all of it to the compute stream, after what that stream, and each other that was
  /// recorded from, were given before. `step`: the RandomKey::step of what it draws.
  virtual void Launch(uint32_t step) = 0;
};

/// One rank's processor: its memory, its streams. Created first and destroyed last; tensors,
/// communicators and modules point to it.
class Device {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  DeviceKind kind() const { return kind_; }
  int index() const { return index_; }

  /// Who counts the time of this device's ops, if it is the CPU; null: nobody. Set while no op
  /// runs.
  OpClock* op_clock() const { return op_clock_; }
  void set_op_clock(OpClock* clock) { op_clock_ = clock; }

  virtual Allocator& allocator() = 0;
  /// The stream on which every op runs.
  virtual Stream& compute_stream() = 0;
  /// A further stream (communication, copies) that runs beside the compute stream.
  virtual std::unique_ptr<Stream> NewStream(const std::string& name) = 0;
  /// Copies between any two of this device's and the host's memory, in stream order.
  virtual void Copy(void* destination, const void* source, size_t bytes, Stream& stream) = 0;
  /// The CPU, with memory of the kind that Copy() is fastest with.
  virtual std::unique_ptr<Device> NewHostDevice() = 0;
  /// Records what `work` gives the compute stream, and other streams once they wait for an event of
  /// a recording one; runs none of it. `work` must not wait for the device with the host, nor for
  /// events from before with a stream. The memory and the streams that it uses must stay where they
  /// are as long as the recording lives; what it allocates does, freed or not. Null where a device
  /// cannot: nothing was done.
  virtual std::unique_ptr<Replay> Capture(const std::function<void()>& /*work*/) { return nullptr; }
  /// What tells this device from the others of its host, where it has such a name (the PCI bus id
  /// of a GPU).
  virtual std::string hardware_id() const { return ""; }
  /// Names, for profilers, what the calling thread does until EndRange(). Ranges nest; `name` is a
  /// literal.
  virtual void BeginRange(const char* /*name*/) {}
  virtual void EndRange() {}

 protected:
  Device(DeviceKind kind, int index) : kind_(kind), index_(index) {}

 private:
  DeviceKind kind_;
  int index_;
  OpClock* op_clock_ = nullptr;
};

/// A range of a profiler's timeline, as a scope.
class DeviceRange {
 public:
  DeviceRange(Device& device, const char* name) : device_(device) { device_.BeginRange(name); }
  ~DeviceRange() { device_.EndRange(); }
  DeviceRange(const DeviceRange&) = delete;
  DeviceRange& operator=(const DeviceRange&) = delete;

 private:
  Device& device_;
};

/// The device `kind` number `index` of this host. Throws Error(kDevice) when this build or machine
/// does not have it.
std::unique_ptr<Device> NewDevice(DeviceKind kind, int index = 0);

std::unique_ptr<Device> NewCpuDevice();
/// Shapes only: allocations are counted and never made, ops do nothing.
std::unique_ptr<Device> NewMetaDevice();
/// Linked from cuda_device.cc in a build with CUDA, else from a stub that throws.
std::unique_ptr<Device> NewCudaDevice(int index);
/// GPUs that this process may use; 0 without a driver or a backend.
int CountCudaDevices();
/// What the driver calls GPU `index`, which is one of them: "NVIDIA H200".
std::string CudaModelName(int index);

}  // namespace cairn
