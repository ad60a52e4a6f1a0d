#include "runtime/ops/math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/team.h"

namespace cairn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Distance from the fp64 truth in units of the spacing of fp32 there.
double Ulps(float value, double truth) {
  const float rounded = static_cast<float>(truth);
  const double spacing = static_cast<double>(std::nextafter(rounded, kInfinity)) - rounded;
  return std::abs(static_cast<double>(value) - truth) / spacing;
}

TEST(MathTest, ExpWithinOneUlp) {
  double worst = 0;
  for (float limit : {88.7f, -87.3f}) {
    const uint32_t last = std::bit_cast<uint32_t>(limit);
    const uint32_t first = std::bit_cast<uint32_t>(std::copysign(1e-9f, limit));
    for (uint32_t bits = first; bits < last; bits += 499) {
      const auto x = std::bit_cast<float>(bits);
      worst = std::max(worst, Ulps(Exp(x), std::exp(static_cast<double>(x))));
    }
  }
  EXPECT_LE(worst, 1.0);
}

TEST(MathTest, ExpAtTheEdges) {
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-0.0f), 1.0f);
  EXPECT_EQ(Exp(kInfinity), kInfinity);
  EXPECT_EQ(Exp(89.0f), kInfinity);
  EXPECT_LT(Exp(88.72f), kInfinity);
  EXPECT_EQ(Exp(-kInfinity), 0.0f);
  EXPECT_EQ(Exp(-1e30f), 0.0f);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
  for (float x = -103.5f; x < -87.4f; x += 0.01f) {  // subnormal results
    EXPECT_LE(Ulps(Exp(x), std::exp(static_cast<double>(x))), 1.0) << x;
  }
}

TEST(MathTest, Sigmoid) {
  for (float x = -86.0f; x < 30.0f; x += 0.0037f) {
    ASSERT_LE(Ulps(Sigmoid(x), 1.0 / (1.0 + std::exp(-static_cast<double>(x)))), 3.0) << x;
  }
  EXPECT_EQ(Sigmoid(-kInfinity), 0.0f);
  EXPECT_EQ(Sigmoid(kInfinity), 1.0f);
}

CAIRN_CPU_KERNEL void ExpRange(float* y, const float* x, int64_t n) {
  CpuTeam().for_each(n, [=](int64_t i) CAIRN_INLINE { y[i] = Exp(x[i]); });
}

CAIRN_CPU_KERNEL float SumExp(const float* x, int64_t n) {
  return CpuTeam().reduce(n, [=](int64_t i) CAIRN_INLINE { return Exp(x[i]); });
}

// Compiled for the plain instruction set only.
float PlainSumExp(const float* x, int64_t n) {
  return CpuTeam().reduce(n, [=](int64_t i) CAIRN_INLINE { return Exp(x[i]); });
}

TEST(TeamTest, NoInstructionSetChangesABit) {
  std::vector<float> x(1537);
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = 20.0f * std::sin(static_cast<float>(i));
  // Every length: all splits between vector body and scalar tail.
  for (size_t n = 0; n <= x.size(); n += n < 70 ? 1 : 163) {
    const auto count = static_cast<int64_t>(n);
    EXPECT_EQ(SumExp(x.data(), count), PlainSumExp(x.data(), count)) << n;
    ExpRange(y.data(), x.data(), count);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], Exp(x[i])) << i << " of " << n;
  }
}

TEST(TeamTest, Reductions) {
  const CpuTeam team;
  for (int64_t n : {1, 15, 16, 17, 511, 512, 513, 2000}) {
    EXPECT_EQ(team.reduce(n, [](int64_t i) { return static_cast<float>(i); }), n * (n - 1) / 2);
    EXPECT_EQ(
        team.reduce_max(n, [=](int64_t i) { return static_cast<float>(-std::abs(i - n / 2)); }),
        0.0f);
    EXPECT_EQ(team.reduce_max(n, [](int64_t i) { return -1.0f - static_cast<float>(i); }), -1.0f);
  }
  EXPECT_EQ(team.reduce(0, [](int64_t) { return 1.0f; }), 0.0f);
  EXPECT_EQ(team.reduce_max(0, [](int64_t) { return 1.0f; }), -kInfinity);
}

}  // namespace
}  // namespace cairn
