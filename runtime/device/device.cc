#include "runtime/device/device.h"

#include "runtime/base/error.h"

namespace cairn {

const char* DeviceKindName(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu:
      return "cpu";
    case DeviceKind::kCuda:
      return "cuda";
    case DeviceKind::kMeta:
      return "meta";
  }
  return "unknown";
}

std::unique_ptr<Device> NewDevice(DeviceKind kind, int index) {
  switch (kind) {
    case DeviceKind::kCpu:
      return NewCpuDevice();
    case DeviceKind::kCuda:
      return NewCudaDevice(index);
    case DeviceKind::kMeta:
      return NewMetaDevice();
  }
  Throw(ErrorKind::kInternal, "device", "unknown device kind {}", static_cast<int>(kind));
}

}  // namespace cairn
