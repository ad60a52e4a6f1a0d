#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cairn::fuzz {

/// Changes one field of a manifest, or, now and then and if `bytes` are none, plain bytes. The
/// result has `max_size` bytes at most.
std::string MutateManifest(const std::string& bytes, size_t max_size, uint32_t seed);

/// libFuzzer's own mutations of plain bytes.
std::string MutateBytes(std::string bytes, size_t max_size);

}  // namespace cairn::fuzz
