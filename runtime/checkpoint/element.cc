#include "runtime/checkpoint/element.h"

#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "runtime/base/error.h"

namespace cairn {
namespace {

template <typename T>
T Load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// A binary float of 1 sign bit, `exponent_bits` and `mantissa_bits`, in IEEE's manner except that
// only some formats have infinities.
float DecodeFloat(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const uint32_t sign = bits >> (exponent_bits + mantissa_bits);
  const uint32_t magnitude = bits & ((1U << (exponent_bits + mantissa_bits)) - 1);
  const uint32_t largest_exponent = ((1U << exponent_bits) - 1) << mantissa_bits;
  const uint32_t all_ones = largest_exponent | ((1U << mantissa_bits) - 1);
  const uint32_t nan = has_infinity ? largest_exponent + 1 : all_ones;
  float value = 0;
  if (has_infinity && magnitude == largest_exponent) {
    value = std::numeric_limits<float>::infinity();
  } else if (magnitude >= nan) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else {
    // Read as a float it is exact but for its exponent's bias, subnormal numbers included.
    const uint32_t bias = (1U << (exponent_bits - 1)) - 1;
    value = std::bit_cast<float>(magnitude << (23 - mantissa_bits)) *
            std::bit_cast<float>((127 + 127 - bias) << 23);
  }
  return sign != 0 ? -value : value;
}

// Calls `visit` with a value of the type that stores elements of `dtype`, and the function that
// makes a number of one; false if they are no numbers.
template <typename Visit>
bool WithDecoder(std::string_view dtype, const Visit& visit) {
  if (dtype == "F32") {
    visit(float{}, [](float v) { return v; });
  } else if (dtype == "BF16") {
    visit(uint16_t{}, [](uint16_t v) { return std::bit_cast<float>(uint32_t{v} << 16); });
  } else if (dtype == "F16") {
    visit(uint16_t{}, [](uint16_t v) { return DecodeFloat(v, 5, 10, true); });
  } else if (dtype == "F64") {
    visit(double{}, [](double v) { return v; });
  } else if (dtype == "F8_E5M2") {
    visit(uint8_t{}, [](uint8_t v) { return DecodeFloat(v, 5, 2, true); });
  } else if (dtype == "F8_E4M3") {
    visit(uint8_t{}, [](uint8_t v) { return DecodeFloat(v, 4, 3, false); });
  } else if (dtype == "I64") {
    visit(int64_t{}, [](int64_t v) { return int64_t{v}; });
  } else if (dtype == "I32") {
    visit(int32_t{}, [](int32_t v) { return int64_t{v}; });
  } else if (dtype == "I16") {
    visit(int16_t{}, [](int16_t v) { return int64_t{v}; });
  } else if (dtype == "I8") {
    visit(int8_t{}, [](int8_t v) { return int64_t{v}; });
  } else if (dtype == "U64") {
    visit(uint64_t{}, [](uint64_t v) { return uint64_t{v}; });
  } else if (dtype == "U32") {
    visit(uint32_t{}, [](uint32_t v) { return uint64_t{v}; });
  } else if (dtype == "U16") {
    visit(uint16_t{}, [](uint16_t v) { return uint64_t{v}; });
  } else if (dtype == "U8") {
    visit(uint8_t{}, [](uint8_t v) { return uint64_t{v}; });
  } else if (dtype == "BOOL") {
    visit(uint8_t{}, [](uint8_t v) { return v != 0; });
  } else {
    return false;
  }
  return true;
}

[[noreturn]] void ThrowNoNumber(std::string_view dtype) {
  Throw(ErrorKind::kUsage, "TENSOR", "values of dtype {} cannot be shown", dtype);
}

// Where a float of these bits, sign and magnitude, stands among all of its format.
template <typename Bits>
int64_t FloatOrder(Bits bits) {
  constexpr Bits kSign = static_cast<Bits>(Bits{1} << (sizeof(Bits) * 8 - 1));
  const auto magnitude = static_cast<int64_t>(bits & static_cast<Bits>(~kSign));
  return (bits & kSign) != 0 ? -magnitude : magnitude;
}

template <size_t kBytes>
using Unsigned = std::conditional_t<
    kBytes == 1, uint8_t,
    std::conditional_t<kBytes == 2, uint16_t, std::conditional_t<kBytes == 4, uint32_t, uint64_t>>>;

}  // namespace

bool IsNumber(std::string_view dtype) {
  return WithDecoder(dtype, [](auto, const auto&) {});
}

ElementValue DecodeElement(std::string_view dtype, const std::byte* bytes) {
  ElementValue value;
  const bool known = WithDecoder(dtype, [&](auto stored, const auto& decode) {
    value = decode(Load<decltype(stored)>(bytes));
  });
  if (!known) ThrowNoNumber(dtype);
  return value;
}

void DecodeElements(std::string_view dtype, const std::byte* bytes, std::span<double> out) {
  const bool known = WithDecoder(dtype, [&](auto stored, const auto& decode) {
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<double>(decode(Load<decltype(stored)>(bytes + i * sizeof(stored))));
    }
  });
  if (!known) ThrowNoNumber(dtype);
}

uint64_t UlpDistance(std::string_view dtype, const std::byte* a, const std::byte* b) {
  uint64_t distance = 0;
  const bool known = WithDecoder(dtype, [&](auto stored, const auto& decode) {
    const auto between = [&](auto x, auto y) {
      // Wraps to the right answer also where the signed difference would overflow.
      distance = x > y ? static_cast<uint64_t>(x) - static_cast<uint64_t>(y)
                       : static_cast<uint64_t>(y) - static_cast<uint64_t>(x);
    };
    if constexpr (std::is_floating_point_v<decltype(decode(stored))>) {
      using Bits = Unsigned<sizeof(stored)>;
      between(FloatOrder(Load<Bits>(a)), FloatOrder(Load<Bits>(b)));
    } else {
      between(decode(Load<decltype(stored)>(a)), decode(Load<decltype(stored)>(b)));
    }
  });
  if (!known) ThrowNoNumber(dtype);
  return distance;
}

}  // namespace cairn
