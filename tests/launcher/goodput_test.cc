#include "launcher/goodput.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cairn {
namespace {

TEST(GoodputTest, TheCausesAddUpToWhatWasReported) {
  double sum = 0;
  for (const FailureCause& cause : LlamaFailureCauses()) sum += cause.count;
  EXPECT_EQ(sum, kLlamaFailures);
}

TEST(GoodputTest, WithoutFailuresOnlyTheStallsCost) {
  GoodputOptions options;
  options.failures_per_rank_day = 1e-15;
  options.save_interval = 99;
  options.save_stall = 1;
  options.save_duration = 10;
  const GoodputResult result = SimulateGoodput(options);
  EXPECT_EQ(result.failures, 0);
  EXPECT_NEAR(result.goodput(), 0.99, 1e-4);
  EXPECT_NEAR(result.total(), options.days * 86400, 200);
  EXPECT_EQ(result.lost + result.detecting + result.restarting, 0);
}

// A save that takes longer than the interval holds the training up for the difference.
TEST(GoodputTest, OneSaveAtATime) {
  GoodputOptions options;
  options.failures_per_rank_day = 1e-15;
  options.save_interval = 60;
  options.save_stall = 0;
  options.save_duration = 90;
  EXPECT_NEAR(SimulateGoodput(options).goodput(), 60.0 / 90, 1e-3);
}

// Where failures are rare, each costs half an interval and the lag of the commit, its detection and
// a restart.
TEST(GoodputTest, AgreesWithTheFormulaForRareFailures) {
  GoodputOptions options;
  options.days = 4000;
  options.save_interval = 600;
  options.save_stall = 0;
  options.save_duration = 60;
  options.detect_death = options.detect_hang = 20;
  options.detect_silent = 0;
  options.restart = 100;
  const GoodputResult result = SimulateGoodput(options);
  const double rate = options.failures_per_rank_day * static_cast<double>(options.ranks);
  EXPECT_NEAR(static_cast<double>(result.failures) / options.days, rate, 0.03 * rate);
  const double cost = 600.0 / 2 + 60 + 20 + 100;
  EXPECT_NEAR(1 - result.goodput(), rate * cost / 86400, 0.05 * rate * cost / 86400);
  EXPECT_NEAR(result.lost / static_cast<double>(result.failures), 360, 15);
}

TEST(GoodputTest, TheSameSeedGivesTheSameRun) {
  GoodputOptions options;
  const GoodputResult a = SimulateGoodput(options);
  EXPECT_EQ(a.useful, SimulateGoodput(options).useful);
  options.seed = 5;
  EXPECT_NE(a.useful, SimulateGoodput(options).useful);
}

TEST(GoodputTest, RestartsThatNeverEndLeaveNothing) {
  GoodputOptions options;
  options.days = 1;
  options.failures_per_rank_day = 1;  // one every five seconds
  const GoodputResult result = SimulateGoodput(options);
  EXPECT_LT(result.goodput(), 0.01);
  EXPECT_TRUE(std::isfinite(result.total()));
}

}  // namespace
}  // namespace cairn
