#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "runtime/checkpoint/safetensors.h"
#include "tests/fuzz/fuzz_testing.h"

// The header of a safetensors file. Input: u32 D, then the JSON of a file with D bytes of data; or,
// with D = 0xffffffff, the bytes of a file, length field included.

namespace cairn::fuzz {
namespace {

constexpr uint32_t kWholeFile = 0xffffffff;

// A file in memory, the same one for all inputs.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) { CHECK_GE(descriptor_, 0); }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  // Gives it `content`, and then zeros up to `bytes`.
  void Set(std::string_view content, uint64_t bytes) const {
    CHECK_EQ(::ftruncate(descriptor_, 0), 0);
    CHECK_EQ(::pwrite(descriptor_, content.data(), content.size(), 0),
             static_cast<ssize_t>(content.size()));
    CHECK_EQ(::ftruncate(descriptor_, static_cast<off_t>(bytes)), 0);
  }

 private:
  int descriptor_;
};

bool SameEntry(const SafetensorsEntry& a, const SafetensorsEntry& b) {
  return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.begin == b.begin &&
         a.end == b.end;
}

void CheckSame(const SafetensorsHeader& a, const SafetensorsHeader& b) {
  CHECK(a.metadata == b.metadata);
  CHECK(std::ranges::equal(a.entries, b.entries, SameEntry));
}

// What was read can be written, and is then read as the same.
void CheckRoundTrip(const SafetensorsHeader& header) {
  std::vector<SafetensorsTensor> tensors;
  uint64_t data_bytes = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.name.empty()) return;  // legal to read, not to write
    data_bytes = entry.end;
    tensors.push_back(
        {entry.name, entry.dtype, entry.shape, ByteSource(entry.end - entry.begin, {})});
  }
  const std::string written = BuildSafetensorsHeader(tensors, header.metadata, "again");
  CheckSame(header, ParseSafetensorsHeader(std::string_view(written).substr(sizeof(uint64_t)),
                                           written.size() + data_bytes, "again"));
}

void RunOne(std::string_view input) {
  static const MemoryFile file;
  uint32_t data_bytes = 0;
  if (input.size() < sizeof(data_bytes)) return;
  std::memcpy(&data_bytes, input.data(), sizeof(data_bytes));
  input.remove_prefix(sizeof(data_bytes));

  if (data_bytes == kWholeFile) {
    file.Set(input, input.size());
    Try(input.size(), kSafetensorsBound, {ErrorKind::kCheckpoint},
        [&] { return SafetensorsFile(file.path()).header().entries.size(); });
    return;
  }
  const uint64_t length = input.size();
  std::string image(sizeof(length), '\0');
  std::memcpy(image.data(), &length, sizeof(length));
  image += input;
  const auto header = Try(input.size(), kSafetensorsBound, {ErrorKind::kCheckpoint}, [&] {
    return ParseSafetensorsHeader(input, image.size() + data_bytes, "input");
  });
  if (header) CheckRoundTrip(*header);
  // The same through a file.
  if (image.size() + data_bytes < sizeof(length) + 2) return;
  file.Set(image, image.size() + data_bytes);
  const auto opened = Try(input.size(), kSafetensorsBound, {ErrorKind::kCheckpoint},
                          [&] { return SafetensorsFile(file.path()).header(); });
  CHECK_EQ(opened.has_value(), header.has_value());
  if (header) CheckSame(*opened, *header);
}

}  // namespace
}  // namespace cairn::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::fuzz::RunOne(cairn::fuzz::AsText(data, size));
  return 0;
}
