#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/checkpoint/byte_source.h"
#include "runtime/tensor/dtype.h"

// Weights on their way from one file format to another: they change their type and the order of
// their axes, and pass through a fixed amount of memory whatever their size.

namespace cairn {

/// fp32, bf16 or fp16 for safetensors' "F32", "BF16", "F16"; nothing for other types.
std::optional<DType> FloatingDType(std::string_view safetensors_dtype);
/// The inverse.
const char* SafetensorsName(DType dtype);

/// Widens the elements at `bytes`, which are of a training dtype.
void DecodeFloats(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// Reads of an array [begin, begin + count) of one axis and all of the others, in the array's own
/// order.
using SlabReader = std::function<void(int64_t begin, int64_t count, std::span<float> out)>;

/// How many bytes of fp32 elements of a tensor are in memory at a time, and as many again in their
/// new order. A matrix larger than this is read once for each such slab.
inline constexpr int64_t kSlabBytes = int64_t{128} << 20;

/// The bytes of an array in another order of its axes, rounded to `dtype`. Axis k of the result is
/// axis order[k] of the array, whose sizes are `extents`; `read` is asked for slabs along axis
/// order[0], of `slab_bytes` at most where a single index of that axis has no more.
ByteSource PermutedSource(std::vector<int64_t> extents, std::vector<int> order, DType dtype,
                          int64_t slab_bytes, SlabReader read);

}  // namespace cairn
