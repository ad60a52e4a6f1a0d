#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

namespace cairn {

/// One element of a tensor.
using ElementValue = std::variant<bool, int64_t, uint64_t, float, double>;

/// Whether the elements of safetensors dtype `dtype` are plain numbers, as the functions below want
/// them; "C64" and "F8_E8M0" are not.
bool IsNumber(std::string_view dtype);

/// Decodes the element at `bytes`. An Error of kind kUsage for dtypes that are no plain numbers.
ElementValue DecodeElement(std::string_view dtype, const std::byte* bytes);

/// Decodes as many elements as `out` has; only 64-bit integers beyond 2^53 are rounded.
void DecodeElements(std::string_view dtype, const std::byte* bytes, std::span<double> out);

/// How many steps from one value of the dtype to the next lie between the numbers at `a` and `b`:
/// 0 for equal ones (also +0 and -0), 1 for neighbours; the difference of integers. Infinities are
/// neighbours of the largest numbers; NaNs have places beyond them that mean nothing.
uint64_t UlpDistance(std::string_view dtype, const std::byte* a, const std::byte* b);

}  // namespace cairn
