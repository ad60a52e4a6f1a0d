#include "runtime/device/device.h"

namespace cairn {
namespace {

class MetaAllocator : public Allocator {
 protected:
  void* RawAllocate(size_t) override { return nullptr; }
  void RawFree(void*, size_t) noexcept override {}
  bool caches() const override { return false; }
};

class MetaStream : public Stream {
 public:
  void Run(std::function<void()>) override {}
  Event Record() override { return Event(); }
  void Wait(const Event&) override {}
  void Synchronize() override {}
};

class MetaDevice : public Device {
 public:
  MetaDevice() : Device(DeviceKind::kMeta, 0) {}
  Allocator& allocator() override { return allocator_; }
  Stream& compute_stream() override { return compute_stream_; }
  std::unique_ptr<Stream> NewStream(const std::string&) override {
    return std::make_unique<MetaStream>();
  }
  std::unique_ptr<Device> NewHostDevice() override { return NewCpuDevice(); }
  void Copy(void*, const void*, size_t, Stream&) override {}

 private:
  MetaAllocator allocator_;
  MetaStream compute_stream_;
};

}  // namespace

std::unique_ptr<Device> NewMetaDevice() { return std::make_unique<MetaDevice>(); }

}  // namespace cairn
