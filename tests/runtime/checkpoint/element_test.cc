#include "runtime/checkpoint/element.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/base/error.h"

namespace cairn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
double Decode(std::string_view dtype, T stored) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &stored, sizeof(T));
  double value = 0;
  DecodeElements(dtype, bytes.data(), std::span(&value, 1));
  // One at a time or many, it is the same value.
  const double single =
      std::visit([](auto v) { return static_cast<double>(v); }, DecodeElement(dtype, bytes.data()));
  EXPECT_TRUE(single == value || (std::isnan(single) && std::isnan(value)));
  return value;
}

template <typename T>
uint64_t Ulp(std::string_view dtype, T a, T b) {
  std::array<std::byte, sizeof(T)> bytes_a;
  std::array<std::byte, sizeof(T)> bytes_b;
  std::memcpy(bytes_a.data(), &a, sizeof(T));
  std::memcpy(bytes_b.data(), &b, sizeof(T));
  return UlpDistance(dtype, bytes_a.data(), bytes_b.data());
}

// What the standard says of a float, by its formula.
double ByFormula(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << mantissa_bits) - 1);
  const int top = (1 << exponent_bits) - 1;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits >> (exponent_bits + mantissa_bits)) != 0 ? -1 : 1;
  if (exponent == top && has_infinity) {
    return mantissa == 0 ? sign * kInfinity : std::nan("");
  }
  if (exponent == top && mantissa == (1 << mantissa_bits) - 1) return std::nan("");
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

void ExpectSame(double a, double b, uint32_t bits) {
  if (std::isnan(b)) {
    EXPECT_TRUE(std::isnan(a)) << bits;
  } else {
    EXPECT_EQ(a, b) << bits;
    EXPECT_EQ(std::signbit(a), std::signbit(b)) << bits;
  }
}

TEST(ElementTest, SmallFloatsAreThoseOfTheirFormulas) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto stored = static_cast<uint16_t>(bits);
    ExpectSame(Decode("F16", stored), ByFormula(bits, 5, 10, true), bits);
    ExpectSame(Decode("BF16", stored), ByFormula(bits, 8, 7, true), bits);
  }
  for (uint32_t bits = 0; bits < 256; ++bits) {
    const auto stored = static_cast<uint8_t>(bits);
    ExpectSame(Decode("F8_E5M2", stored), ByFormula(bits, 5, 2, true), bits);
    ExpectSame(Decode("F8_E4M3", stored), ByFormula(bits, 4, 3, false), bits);
  }
}

TEST(ElementTest, OtherNumbers) {
  EXPECT_EQ(Decode("F32", -1.5F), -1.5);
  EXPECT_EQ(Decode("F64", 1e300), 1e300);
  EXPECT_EQ(Decode("I8", int8_t{-128}), -128);
  EXPECT_EQ(Decode("U8", uint8_t{255}), 255);
  EXPECT_EQ(Decode("I16", int16_t{-2}), -2);
  EXPECT_EQ(Decode("U16", uint16_t{65535}), 65535);
  EXPECT_EQ(Decode("I32", int32_t{-3}), -3);
  EXPECT_EQ(Decode("U32", uint32_t{4000000000}), 4e9);
  EXPECT_EQ(Decode("I64", int64_t{-1} << 62), -std::ldexp(1, 62));
  EXPECT_EQ(Decode("U64", uint64_t{1} << 63), std::ldexp(1, 63));
  EXPECT_EQ(Decode("BOOL", uint8_t{2}), 1);
  for (const char* dtype : {"C64", "F8_E8M0", "F33", ""}) {
    EXPECT_FALSE(IsNumber(dtype));
    const std::array<std::byte, 8> bytes = {};
    EXPECT_THROW(DecodeElement(dtype, bytes.data()), Error);
    EXPECT_THROW(UlpDistance(dtype, bytes.data(), bytes.data()), Error);
  }
}

TEST(ElementTest, UlpDistancesCountSteps) {
  EXPECT_EQ(Ulp("F32", 1.0F, 1.0F), 0U);
  EXPECT_EQ(Ulp("F32", 1.0F, std::nextafter(1.0F, 2.0F)), 1U);
  EXPECT_EQ(Ulp("F32", 0.0F, -0.0F), 0U);
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(Ulp("F32", tiny, -tiny), 2U);
  EXPECT_EQ(Ulp("F32", std::numeric_limits<float>::max(), HUGE_VALF), 1U);
  EXPECT_EQ(Ulp("BF16", uint16_t{0x3f80}, uint16_t{0x3f83}), 3U);
  EXPECT_EQ(Ulp("F16", uint16_t{0x8001}, uint16_t{0x0001}), 2U);
  EXPECT_EQ(Ulp("F64", -HUGE_VAL, HUGE_VAL), 2 * uint64_t{0x7ff0000000000000});
  EXPECT_EQ(Ulp("I8", int8_t{-128}, int8_t{127}), 255U);
  EXPECT_EQ(Ulp("I64", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()),
            std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(Ulp("U64", uint64_t{0}, std::numeric_limits<uint64_t>::max()),
            std::numeric_limits<uint64_t>::max());
}

}  // namespace
}  // namespace cairn
