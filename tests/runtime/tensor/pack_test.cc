#include "runtime/tensor/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace cairn {
namespace {

TEST(PackTest, WidthIsThatOfTheSmallestType) {
  EXPECT_EQ((kPackWidth<float>), 4);
  EXPECT_EQ((kPackWidth<const BFloat16, BFloat16>), 8);
  EXPECT_EQ((kPackWidth<float, const Float16>), 8);
  EXPECT_EQ((kPackWidth<double, double, const BFloat16>), 8);
  EXPECT_EQ((kPackWidth<float, const double>), 4);
  EXPECT_EQ((sizeof(Pack<double, 8>)), 64U);
  EXPECT_EQ((alignof(Pack<BFloat16, 8>)), 16U);
}

TEST(PackTest, WholePacksOfWhatIsAligned) {
  const struct {
    int64_t n, width;
    uintptr_t addresses;
    int64_t packed;
  } cases[] = {{0, 4, 0, 0},          {3, 4, 0x100, 0},      {4, 4, 0x100, 4},
               {50257, 8, 16, 50256}, {50304, 8, 32, 50304}, {50304, 8, 8, 0},
               {64, 4, 0x100 | 4, 0}, {64, 8, 0x100 | 2, 0}, {1, 1, 16, 1}};
  for (const auto& [n, width, addresses, packed] : cases) {
    EXPECT_EQ(PackedElements(n, width, addresses), packed) << n << " at " << addresses;
  }
}

// The threads of a launch, one after the other: each element is written once, from its own inputs,
// whatever the types, the number of threads, the length and the place in memory.
template <typename D, typename S>
void ExpectEveryElementOnce() {
  for (const int64_t n : {0, 1, 7, 8, 9, 63, 64, 65, 1000}) {
    for (const int64_t threads : {1, 3, 32, 256}) {
      for (const int64_t out_gap : {0, 1}) {
        for (const int64_t in_gap : {0, 1, 8}) {
          alignas(kPackBytes) static D out[1024];
          alignas(kPackBytes) static S in[1024];
          std::fill(std::begin(out), std::end(out), D(0.0f));
          for (int64_t i = 0; i < 1024; ++i) in[i] = S(static_cast<float>(i % 200));
          std::vector<int> visits(static_cast<size_t>(n));
          D* const to = out + out_gap;
          const S* const from = in + in_gap;
          for (int64_t thread = 0; thread < threads; ++thread) {
            ZipShare(
                thread, threads, n,
                [&](int64_t i, D& y, const S& x) {
                  ++visits[static_cast<size_t>(i)];
                  y = D(static_cast<float>(y) + static_cast<float>(x) + 1.0f);
                },
                to, from);
          }
          EXPECT_EQ(visits, std::vector<int>(static_cast<size_t>(n), 1));
          for (int64_t i = 0; i < 1024 - out_gap; ++i) {
            const float expected = i < n ? static_cast<float>((i + in_gap) % 200) + 1.0f : 0.0f;
            ASSERT_EQ(static_cast<float>(to[i]), expected)
                << i << " of " << n << ", gaps " << out_gap << " " << in_gap;
          }
        }
      }
    }
  }
}

TEST(PackTest, ThreadsTakeEveryElementOnce) {
  ExpectEveryElementOnce<float, float>();
  ExpectEveryElementOnce<float, BFloat16>();
  ExpectEveryElementOnce<BFloat16, float>();
  ExpectEveryElementOnce<Float16, Float16>();
  ExpectEveryElementOnce<double, BFloat16>();
}

}  // namespace
}  // namespace cairn
