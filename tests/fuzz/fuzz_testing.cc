#include "tests/fuzz/fuzz_testing.h"

#include <sanitizer/allocator_interface.h>

#include <algorithm>
#include <string>

namespace cairn::fuzz {
namespace {

// Longer than any message with a name of 1 KiB, every byte of it shown as \xNN.
constexpr size_t kMaxMessageBytes = 8192;

// Hooks see every allocation of the process, also those of libraries. Targets run on one thread.
bool measuring = false;
int64_t held = 0;
int64_t peak = 0;

void OnMalloc(const volatile void* /*memory*/, size_t bytes) {
  if (!measuring) return;
  held += static_cast<int64_t>(bytes);
  peak = std::max(peak, held);
}

void OnFree(const volatile void* memory) {
  if (!measuring || memory == nullptr) return;
  held -= static_cast<int64_t>(__sanitizer_get_allocated_size(memory));
}

}  // namespace

MemoryMeter::MemoryMeter() {
  static const bool installed = __sanitizer_install_malloc_and_free_hooks(OnMalloc, OnFree) != 0;
  CHECK(installed && !measuring);
  held = 0;
  peak = 0;
  measuring = true;
}

MemoryMeter::~MemoryMeter() { measuring = false; }

size_t MemoryMeter::Peak() const { return static_cast<size_t>(peak); }

void CheckError(const Error& error, std::initializer_list<ErrorKind> kinds) {
  const std::string what = error.what();
  CHECK(std::ranges::count(kinds, error.kind()) > 0)
      << ErrorKindName(error.kind()) << " error: " << what;
  CHECK(!error.where().empty() && !error.message().empty()) << what;
  CHECK_EQ(what.find('\n'), std::string::npos) << what;
  CHECK_LE(what.size(), kMaxMessageBytes) << what;
}

void CheckPeak(size_t peak_bytes, size_t input_bytes, const MemoryBound& bound) {
  CHECK_LE(peak_bytes, bound.factor * input_bytes + bound.slack)
      << "bytes of memory for " << input_bytes << " bytes of input";
}

}  // namespace cairn::fuzz
