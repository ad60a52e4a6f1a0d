#include "runtime/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "runtime/base/error.h"

namespace cairn {
namespace {

template <typename T>
T FromBits(uint32_t bits) {
  T value;
  value.bits = static_cast<uint16_t>(bits);
  return value;
}

// The value of a 16-bit pattern by the definition of its format, in fp64.
double Decode(uint32_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1));
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(1.0 + std::ldexp(fraction, -fraction_bits), exponent - bias);
}

template <typename T>
struct Format;
template <>
struct Format<BFloat16> {
  static constexpr int kExponentBits = 8;
  static constexpr int kFractionBits = 7;
};
template <>
struct Format<Float16> {
  static constexpr int kExponentBits = 5;
  static constexpr int kFractionBits = 10;
};

template <typename T>
class HalfTest : public ::testing::Test {
 protected:
  static double Value(uint32_t bits) {
    return Decode(bits, Format<T>::kExponentBits, Format<T>::kFractionBits);
  }
  // The first pattern whose value is infinity.
  static constexpr uint32_t kInfinityBits = ((1u << Format<T>::kExponentBits) - 1)
                                            << Format<T>::kFractionBits;
};
using Halves = ::testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(HalfTest, Halves);

TYPED_TEST(HalfTest, EveryPatternDecodesAndReturns) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double truth = this->Value(bits);
    const auto value = static_cast<float>(FromBits<TypeParam>(bits));
    if (std::isnan(truth)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(value)))) << bits;
      continue;
    }
    ASSERT_EQ(value, truth) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000u) != 0) << bits;
    ASSERT_EQ(TypeParam(value).bits, bits);
  }
}

// Between each two neighbours: below, at, and above the midpoint, for both signs.
TYPED_TEST(HalfTest, RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < this->kInfinityBits; ++bits) {
    const double low = this->Value(bits);
    // Past the largest finite number the next power of two would follow.
    const double high =
        bits + 1 < this->kInfinityBits ? this->Value(bits + 1) : 2 * low - this->Value(bits - 1);
    const auto middle = static_cast<float>(low + (high - low) / 2);
    const uint32_t even = (bits & 1) == 0 ? bits : bits + 1;
    ASSERT_EQ(TypeParam(middle).bits, even) << bits;
    ASSERT_EQ(TypeParam(-middle).bits, even | 0x8000u) << bits;
    ASSERT_EQ(TypeParam(std::nextafter(middle, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(TypeParam(std::nextafter(middle, std::numeric_limits<float>::infinity())).bits,
              bits + 1)
        << bits;
  }
}

TYPED_TEST(HalfTest, RandomFloatsGoToTheNearest) {
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const auto y = static_cast<double>(static_cast<float>(TypeParam(x)));
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(y));
      continue;
    }
    const uint32_t bits = TypeParam(x).bits;
    ASSERT_EQ(std::signbit(x), (bits & 0x8000u) != 0);
    if (std::isinf(y)) continue;  // its threshold is tested above
    const double error = std::abs(y - x);
    if ((bits & 0x7fffu) != 0) {
      ASSERT_LE(error, std::abs(this->Value(bits - 1) - x));
    }
    if ((bits & 0x7fffu) + 1 < this->kInfinityBits) {
      ASSERT_LE(error, std::abs(this->Value(bits + 1) - x));
    }
  }
}

TYPED_TEST(HalfTest, Extremes) {
  EXPECT_EQ(TypeParam(std::numeric_limits<float>::infinity()).bits, this->kInfinityBits);
  EXPECT_EQ(TypeParam(-std::numeric_limits<float>::infinity()).bits, this->kInfinityBits | 0x8000u);
  EXPECT_EQ(TypeParam(std::numeric_limits<float>::max()).bits, this->kInfinityBits);
  EXPECT_EQ(TypeParam(-0.0f).bits, 0x8000u);
  // A signalling NaN whose payload lies in the bits that are cut off stays a NaN.
  EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(std::bit_cast<float>(0x7f800001u)))));
}

TEST(DTypeTest, SizesNamesAndKinds) {
  EXPECT_EQ(DTypeSize(DType::kFloat32), 4U);
  EXPECT_EQ(DTypeSize(DType::kBFloat16), 2U);
  EXPECT_EQ(DTypeSize(DType::kFloat16), 2U);
  EXPECT_EQ(DTypeSize(DType::kFloat64), 8U);
  EXPECT_EQ(DTypeSize(DType::kInt32), 4U);
  EXPECT_EQ(DTypeSize(DType::kInt64), 8U);
  EXPECT_EQ(DTypeSize(DType::kUInt8), 1U);
  EXPECT_STREQ(DTypeName(DType::kBFloat16), "bf16");
  EXPECT_TRUE(IsFloating(DType::kFloat16));
  EXPECT_FALSE(IsFloating(DType::kInt32));
}

TEST(DTypeTest, DispatchRefusesOtherTypesByName) {
  try {
    DispatchFloating("gelu", DType::kInt32, [](auto) { FAIL(); });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    const std::string what = error.what();
    EXPECT_NE(what.find("gelu"), std::string::npos);
    EXPECT_NE(what.find("int32"), std::string::npos);
  }
}

}  // namespace
}  // namespace cairn
