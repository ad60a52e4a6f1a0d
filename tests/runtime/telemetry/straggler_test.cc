#include "runtime/telemetry/straggler.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <vector>

namespace cairn {
namespace {

// Four ranks in two stages, of which the second has more work; `slow` times as much on `rank`.
std::vector<double> Busy(int rank, double slow, std::mt19937& random) {
  std::uniform_real_distribution<double> noise(0.9, 1.2);
  std::vector<double> busy = {1, 1, 1.8, 1.8};
  for (double& seconds : busy) seconds *= noise(random);
  busy[rank] *= slow;
  return busy;
}

// The step, counted from 1, after which a straggler is told of; 0: never in `steps`.
int ToldAfter(StragglerDetector& detector, int rank, double slow, int steps, std::mt19937& random) {
  for (int step = 1; step <= steps; ++step) {
    const auto straggler = detector.Observe(Busy(rank, slow, random), 2.5 * slow);
    if (!straggler) continue;
    EXPECT_EQ(straggler->rank, rank);
    EXPECT_NEAR(straggler->slowdown, slow, 0.3 * slow);
    EXPECT_GT(straggler->share_of_step, 0.1);
    return step;
  }
  return 0;
}

TEST(StragglerTest, OneThatIsSlowFromTheStartIsToldOfWithinTwentySteps) {
  std::mt19937 random(1);
  for (int rank = 0; rank < 4; ++rank) {
    StragglerDetector detector({0, 0, 1, 1});
    const int step = ToldAfter(detector, rank, 3, 20, random);
    EXPECT_GT(step, 0) << rank;
  }
}

TEST(StragglerTest, OneThatBecomesSlowIsToldOfWithinTwentyStepsEvenWithoutPeers) {
  std::mt19937 random(2);
  StragglerDetector detector({0, 1, 2, 3});
  EXPECT_EQ(ToldAfter(detector, 1, 1, 200, random), 0);
  EXPECT_GT(ToldAfter(detector, 1, 2.5, 20, random), 0);
  // Once, not in every step; and again when it comes back.
  EXPECT_EQ(ToldAfter(detector, 1, 2.5, 50, random), 0);
  EXPECT_EQ(ToldAfter(detector, 1, 1, 50, random), 0);
  EXPECT_GT(ToldAfter(detector, 1, 2.5, 20, random), 0);
}

TEST(StragglerTest, ItIsFoundAmongManyWhateverTheirNumber) {
  for (const int ranks : {2, 3, 4, 5, 999, 1000}) {
    StragglerDetector detector(std::vector<int>(ranks, 0));
    std::vector<double> busy(ranks);
    for (int rank = 0; rank < ranks; ++rank) busy[rank] = 1 + 0.4 * rank / ranks;
    for (const int slow : {0, ranks / 2, ranks - 1}) {
      std::vector<double> slowed = busy;
      slowed[slow] *= 4;
      std::optional<Straggler> told;
      for (int step = 0; step < 20; ++step) {
        const auto straggler = detector.Observe(slowed, slowed[slow]);
        if (straggler) told = straggler;
      }
      ASSERT_TRUE(told.has_value()) << slow << " of " << ranks;
      EXPECT_EQ(told->rank, slow) << ranks;
      for (int step = 0; step < 20; ++step) detector.Observe(busy, 1.4);
    }
  }
}

TEST(StragglerTest, UnequalStagesAndNoiseAreNone) {
  std::mt19937 random(3);
  StragglerDetector detector({0, 0, 1, 1});
  EXPECT_EQ(ToldAfter(detector, 0, 1, 5000, random), 0);
}

TEST(StragglerTest, AMachineThatBecomesSlowForAllHasNone) {
  std::mt19937 random(5);
  for (const std::vector<int>& stages : {std::vector{0, 0, 1, 1}, std::vector{0, 1, 2, 3}}) {
    StragglerDetector detector(stages);
    for (int step = 0; step < 1000; ++step) {
      const double load = step < 100 ? 1 : 4;
      std::vector<double> busy = Busy(0, 1, random);
      for (double& seconds : busy) seconds *= load;
      EXPECT_FALSE(detector.Observe(busy, 2.5 * load).has_value()) << step;
    }
  }
}

TEST(StragglerTest, RanksThatTakeTurnsOnACoreAreNone) {
  std::mt19937 random(6);
  StragglerDetector detector({0, 1, 2, 3}, 2);
  for (int step = 0; step < 1000; ++step) {
    // One has a core of its own for 50 steps, and then another.
    EXPECT_FALSE(detector.Observe(Busy(step / 50 % 4, 2, random), 5).has_value()) << step;
  }
}

TEST(StragglerTest, StepsOfMillisecondsAreTheSchedulersChoice) {
  std::mt19937 random(7);
  StragglerDetector detector({0, 0, 1, 1});
  for (int step = 0; step < 1000; ++step) {
    std::vector<double> busy = Busy(1, 3, random);
    for (double& seconds : busy) seconds /= 1000;
    EXPECT_FALSE(detector.Observe(busy, 0.004).has_value()) << step;
  }
}

TEST(StragglerTest, SingleSlowStepsAreNone) {
  std::mt19937 random(4);
  StragglerDetector detector({0, 0, 1, 1});
  for (int step = 0; step < 500; ++step) {
    EXPECT_FALSE(detector.Observe(Busy(step % 4, step % 5 == 0 ? 20 : 1, random), 3).has_value());
  }
}

}  // namespace
}  // namespace cairn
