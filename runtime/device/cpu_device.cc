#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "runtime/device/device.h"

namespace cairn {
namespace {

class CpuAllocator : public Allocator {
 public:
  ~CpuAllocator() override { ReleaseCache(); }

 protected:
  void* RawAllocate(size_t bytes) override {
    // Linux grants more than it has and kills later; more than the machine holds is refused now.
    static const size_t physical =
        static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (bytes > physical) return nullptr;
    constexpr size_t kHugePage = size_t{2} << 20;
    const bool large = bytes >= kHugePage;
    const size_t alignment = large ? kHugePage : 64;
    void* pointer = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    // Advice only: fewer page faults where the kernel grants huge pages.
    if (pointer != nullptr && large) (void)madvise(pointer, bytes, MADV_HUGEPAGE);
    return pointer;
  }
  void RawFree(void* pointer, size_t) noexcept override { std::free(pointer); }
};

class CpuDevice : public Device {
 public:
  CpuDevice() : Device(DeviceKind::kCpu, 0), compute_stream_(NewInlineStream()) {}
  Allocator& allocator() override { return allocator_; }
  Stream& compute_stream() override { return *compute_stream_; }
  std::unique_ptr<Stream> NewStream(const std::string& name) override {
    return NewWorkerStream(name);
  }
  std::unique_ptr<Device> NewHostDevice() override { return NewCpuDevice(); }
  void Copy(void* destination, const void* source, size_t bytes, Stream& stream) override {
    if (bytes == 0) return;
    stream.Run([=] { std::memcpy(destination, source, bytes); });
  }

 private:
  CpuAllocator allocator_;
  std::unique_ptr<Stream> compute_stream_;
};

}  // namespace

std::unique_ptr<Device> NewCpuDevice() { return std::make_unique<CpuDevice>(); }

}  // namespace cairn
