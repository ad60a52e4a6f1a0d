#include "optimizer/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "runtime/base/error.h"

namespace cairn {
namespace {

constexpr double kPeak = 6e-4;
constexpr double kLeast = 6e-5;

LrSchedule Schedule(LrDecayStyle style) {
  return {.style = style,
          .max_lr = kPeak,
          .min_lr = kLeast,
          .warmup_iters = 10,
          .decay_iters = 110,
          .wsd_decay_iters = 20};
}

struct Point {
  int64_t iteration;
  double rate;
};

void ExpectPoints(const LrSchedule& schedule, std::initializer_list<Point> points) {
  for (const Point& point : points) {
    EXPECT_NEAR(schedule.At(point.iteration), point.rate, 1e-15) << point.iteration;
  }
}

TEST(LrScheduleTest, EveryStyleWarmsUpLinearly) {
  for (const LrDecayStyle style :
       {LrDecayStyle::kConstant, LrDecayStyle::kLinear, LrDecayStyle::kCosine,
        LrDecayStyle::kInverseSquareRoot, LrDecayStyle::kWsd}) {
    ExpectPoints(Schedule(style), {{1, kPeak / 10}, {5, kPeak / 2}, {9, kPeak * 0.9}, {10, kPeak}});
  }
}

TEST(LrScheduleTest, Constant) {
  ExpectPoints(Schedule(LrDecayStyle::kConstant), {{11, kPeak}, {110, kPeak}, {1000000, kPeak}});
}

TEST(LrScheduleTest, Linear) {
  ExpectPoints(Schedule(LrDecayStyle::kLinear), {{35, kLeast + 0.75 * (kPeak - kLeast)},
                                                 {60, kLeast + 0.5 * (kPeak - kLeast)},
                                                 {109, kLeast + 0.01 * (kPeak - kLeast)},
                                                 {110, kLeast},
                                                 {111, kLeast}});
}

TEST(LrScheduleTest, Cosine) {
  const double span = kPeak - kLeast;
  ExpectPoints(Schedule(LrDecayStyle::kCosine),
               {{35, kLeast + span * (1 + std::numbers::sqrt2 / 2) / 2},
                {60, kLeast + span / 2},
                {85, kLeast + span * (1 - std::numbers::sqrt2 / 2) / 2},
                {110, kLeast},
                {5000, kLeast}});
}

TEST(LrScheduleTest, InverseSquareRoot) {
  // max_lr at the end of the warm-up, half of it at four times the iteration.
  ExpectPoints(Schedule(LrDecayStyle::kInverseSquareRoot),
               {{40, kPeak / 2}, {90, kPeak / 3}, {110, kPeak / std::sqrt(11.0)}, {111, kLeast}});
  LrSchedule floored = Schedule(LrDecayStyle::kInverseSquareRoot);
  floored.min_lr = kPeak / 2.5;
  ExpectPoints(floored, {{40, kPeak / 2}, {90, kPeak / 2.5}});
  LrSchedule cold = Schedule(LrDecayStyle::kInverseSquareRoot);
  cold.warmup_iters = 0;
  ExpectPoints(cold, {{1, kPeak}, {4, kPeak / 2}});
}

TEST(LrScheduleTest, WarmupStableDecay) {
  ExpectPoints(Schedule(LrDecayStyle::kWsd), {{11, kPeak},
                                              {90, kPeak},
                                              {95, kLeast + 0.75 * (kPeak - kLeast)},
                                              {100, kLeast + 0.5 * (kPeak - kLeast)},
                                              {110, kLeast},
                                              {200, kLeast}});
}

TEST(LrScheduleTest, NoWarmupStartsAtThePeakAndDecays) {
  LrSchedule schedule = Schedule(LrDecayStyle::kLinear);
  schedule.warmup_iters = 0;
  schedule.decay_iters = 10;
  ExpectPoints(schedule, {{1, kLeast + 0.9 * (kPeak - kLeast)}, {10, kLeast}});
}

TEST(LrScheduleTest, WarmupMayFillTheWholeDecay) {
  for (const LrDecayStyle style :
       {LrDecayStyle::kLinear, LrDecayStyle::kCosine, LrDecayStyle::kWsd}) {
    LrSchedule schedule = Schedule(style);
    schedule.warmup_iters = schedule.decay_iters = 8;
    schedule.wsd_decay_iters = 8;
    ExpectPoints(schedule, {{8, kPeak}, {9, kLeast}});
  }
}

TEST(LrScheduleTest, NamesOfStyles) {
  EXPECT_EQ(ParseLrDecayStyle("constant"), LrDecayStyle::kConstant);
  EXPECT_EQ(ParseLrDecayStyle("linear"), LrDecayStyle::kLinear);
  EXPECT_EQ(ParseLrDecayStyle("cosine"), LrDecayStyle::kCosine);
  EXPECT_EQ(ParseLrDecayStyle("inverse_square_root"), LrDecayStyle::kInverseSquareRoot);
  EXPECT_EQ(ParseLrDecayStyle("wsd"), LrDecayStyle::kWsd);
  try {
    ParseLrDecayStyle("Cosine");
    FAIL() << "an unknown style was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  }
}

}  // namespace
}  // namespace cairn
