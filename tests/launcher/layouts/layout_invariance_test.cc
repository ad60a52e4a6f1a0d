// The layout never changes the result: every product of tensor, pipeline and data parallelism over
// up to 8 ranks gives the loss curve and gradient norms of one rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "layouts_testing.h"

namespace cairn::testing {
namespace {

#ifdef CAIRN_SANITIZED
constexpr int kIterations = 2;  // what a sanitizer finds, it finds in two
constexpr int kRankCounts[] = {2, 4};
#else
constexpr int kIterations = 20;
constexpr int kRankCounts[] = {1, 2, 3, 4, 6, 8};
#endif
constexpr double kTolerance = 2e-5;

const std::vector<Point>& OneRank() {
  static const std::vector<Point> points = Train({.micro_batch_size = 24}, kIterations);
  return points;
}

// For docs/layout-invariance.md: CAIRN_LAYOUT_TABLE=1 prints a row per layout.
void Note(const Layout& layout, double deviation) {
  if (std::getenv("CAIRN_LAYOUT_TABLE") == nullptr) return;
  std::printf("| %d | %s | %.1e |\n", layout.ranks(), layout.Name().c_str(), deviation);
}

TEST(LayoutInvarianceTest, OneRankLearns) {
  EXPECT_LT(OneRank().back().lm_loss, OneRank().front().lm_loss - (kIterations > 10 ? 0.3 : 0));
}

// Each (tp, pp, dp) with and without sequence parallelism and ZeRO-1, with a micro batch size and a
// schedule that change from case to case.
std::vector<Layout> Matrix() {
  std::vector<Layout> all;
  for (const int ranks : kRankCounts) {
    for (Layout layout : LayoutsOf(ranks)) {
      for (const bool sequence_parallel : {false, true}) {
        if (sequence_parallel && layout.tp == 1) continue;
        for (const bool zero : {false, true}) {
          if (zero && layout.dp == 1) continue;
          layout.sequence_parallel = sequence_parallel;
          layout.zero = zero;
          // The next size in turn that divides a replica's share of the 24 samples.
          size_t turn = all.size();
          const int sizes[] = {1, 3, 2, 4};
          while (24 / layout.dp % sizes[turn % 4] != 0) ++turn;
          layout.micro_batch_size = sizes[turn % 4];
          layout.schedule = all.size() % 3 == 0 ? "gpipe" : "1f1b";
          all.push_back(layout);
        }
      }
    }
  }
  return all;
}

class LayoutTest : public ::testing::TestWithParam<Layout> {};

TEST_P(LayoutTest, EqualsOneRank) {
  const double deviation = LargestDeviation(Train(GetParam(), kIterations), OneRank());
  Note(GetParam(), deviation);
  EXPECT_LE(deviation, kTolerance) << GetParam().Name();
}

std::string CaseName(const ::testing::TestParamInfo<Layout>& info) {
  std::string name = info.param.Name();
  for (char& c : name) {
    if (c == ' ') c = '_';
  }
  return name + "_" + std::to_string(info.index);
}

INSTANTIATE_TEST_SUITE_P(Matrix, LayoutTest, ::testing::ValuesIn(Matrix()), CaseName);

TEST(LayoutInvarianceTest, RecomputationChangesNothing) {
  Layout layout{.tp = 2, .pp = 2, .dp = 1, .sequence_parallel = true};
  const std::vector<Point> kept = Train(layout, 4);
  for (const char* const granularity : {"selective", "full"}) {
    layout.recompute = granularity;
    EXPECT_EQ(Train(layout, 4), kept) << granularity;
  }
}

// Low precision rounds differently in every layout; the curves must still stay together.
TEST(LayoutInvarianceTest, LowPrecisionStaysClose) {
  const int iterations = std::min(kIterations, 6);
  for (const char* precision : {"bf16", "fp16"}) {
    const std::vector<Point> one = Train({.precision = precision}, iterations);
    for (const Layout& layout :
         {Layout{.tp = 2, .pp = 2, .sequence_parallel = true, .precision = precision},
          Layout{.pp = 2, .dp = 2, .zero = true, .precision = precision}}) {
      const std::vector<Point> points = Train(layout, iterations);
      for (int i = 0; i < iterations; ++i) {
        EXPECT_NEAR(points[i].lm_loss, one[i].lm_loss, 2e-2 * one[i].lm_loss) << layout.Name();
      }
    }
  }
}

}  // namespace
}  // namespace cairn::testing
