#pragma once

#include <glog/logging.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <type_traits>

#include "runtime/base/error.h"

// What all targets check of a parser. A broken promise aborts, which is what libFuzzer looks for.

namespace cairn::fuzz {

/// Counts the heap that its scope asks for, at most at a time; one at a time.
class MemoryMeter {
 public:
  MemoryMeter();
  ~MemoryMeter();
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;

  size_t Peak() const;
};

/// The memory that parsing `input_bytes` may take: `factor` times as much, and `slack` for what
/// does not depend on it.
struct MemoryBound {
  size_t factor;
  size_t slack;
};

/// Fails unless `error` is one of `kinds`, names a place, and is one line of bounded length.
void CheckError(const Error& error, std::initializer_list<ErrorKind> kinds);

/// Fails if `peak` exceeds the bound.
void CheckPeak(size_t peak, size_t input_bytes, const MemoryBound& bound);

/// The value of `parse`, nothing if it refused its input of `input_bytes` bytes. Fails where it
/// throws anything but a well-formed Error of `kinds`, or takes more memory than `bound`.
template <typename Parse>
auto Try(size_t input_bytes, const MemoryBound& bound, std::initializer_list<ErrorKind> kinds,
         Parse parse) {
  std::optional<std::invoke_result_t<Parse>> value;
  const MemoryMeter meter;
  try {
    value.emplace(parse());
  } catch (const Error& error) {
    CheckError(error, kinds);
  }
  CheckPeak(meter.Peak(), input_bytes, bound);
  return value;
}

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The bounds that docs/checkpoints.md states. Small inputs take the slack, large ones are those of
// dense_inputs.cc.
inline constexpr MemoryBound kSafetensorsBound = {6, 32 << 10};
inline constexpr MemoryBound kManifestBound = {12, 32 << 10};
inline constexpr MemoryBound kConfigBound = {16, 256 << 10};

}  // namespace cairn::fuzz
