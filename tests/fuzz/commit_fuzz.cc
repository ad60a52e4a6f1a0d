#include <fmt/format.h>

#include <span>
#include <string>

#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "tests/fuzz/fuzz_testing.h"

// COMMIT. Input: its text; tried as it is, and with a line of the right checksum.

namespace cairn::fuzz {
namespace {

constexpr MemoryBound kBound = {8, 16 << 10};

void RunOne(const std::string& text) {
  const auto record =
      Try(text.size(), kBound, {}, [&] { return CommitRecord::Parse(text); }).value();
  if (!record) return;
  CHECK_EQ(record->Render(), text);
  CHECK_GE(record->iteration, 0);
}

}  // namespace
}  // namespace cairn::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(cairn::fuzz::AsText(data, size));
  cairn::fuzz::RunOne(text);
  const uint32_t sum = cairn::Crc32c(std::as_bytes(std::span(text)));
  cairn::fuzz::RunOne(text + fmt::format("crc32c {:08x}\n", sum));
  return 0;
}
