#include "runtime/tensor/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cairn {
namespace {

// Known answers of the Random123 distribution for Philox4x32-10.
TEST(PhiloxTest, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({.seed = ~uint64_t{0}, .step = ~0u, .site = ~0u}, ~uint64_t{0}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0
  EXPECT_EQ(Philox({.seed = 0x299f31d0a4093822, .step = 0x13198a2e, .site = 0x03707344},
                   0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, WordsAreThoseOfTheBlocks) {
  const RandomKey key{.seed = 5, .step = 6, .site = 7};
  for (uint64_t index : {0ULL, 1ULL, 6ULL, 4000000007ULL, 1ULL << 60}) {
    EXPECT_EQ(RandomWord(key, index), Philox(key, index / 4)[index % 4]);
  }
}

TEST(RandomTest, EveryPartOfTheKeyMatters) {
  std::set<uint32_t> words;
  for (uint64_t seed : {1ULL, 2ULL, 1ULL << 32}) {
    for (uint32_t step : {0u, 1u}) {
      for (uint32_t site : {0u, 1u}) {
        for (uint64_t index : {0ULL, 1ULL, 4ULL, 1ULL << 40}) {
          words.insert(RandomWord({.seed = seed, .step = step, .site = site}, index));
        }
      }
    }
  }
  EXPECT_EQ(words.size(), 3U * 2 * 2 * 4);
}

TEST(RandomTest, NormalMoments) {
  const RandomKey key{.seed = 11, .step = 0, .site = 3};
  const int n = 400000;
  double moments[5] = {};
  double neighbours = 0;
  double previous = 0;
  for (int i = 0; i < n; ++i) {
    const double x = RandomNormal(key, static_cast<uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    double power = 1;
    for (double& moment : moments) {
      moment += power / n;
      power *= x;
    }
    neighbours += x * previous / n;  // also the two of one Box-Muller pair
    previous = x;
  }
  // Five standard errors of each.
  const double unit = 5 / std::sqrt(n);
  EXPECT_NEAR(moments[1], 0.0, unit);
  EXPECT_NEAR(moments[2], 1.0, unit * std::sqrt(2));
  EXPECT_NEAR(moments[3], 0.0, unit * std::sqrt(15));
  EXPECT_NEAR(moments[4], 3.0, unit * std::sqrt(96));
  EXPECT_NEAR(neighbours, 0.0, unit);
}

TEST(RandomTest, DropThreshold) {
  EXPECT_EQ(DropThreshold(0.0), 0u);
  EXPECT_EQ(DropThreshold(0.5), 0x80000000u);
  EXPECT_EQ(DropThreshold(0.25), 0x40000000u);
}

}  // namespace
}  // namespace cairn
