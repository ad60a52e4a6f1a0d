#include "parallel/pipeline/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "runtime/base/error.h"
#include "tests/parallel/pipeline/schedules_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeByHand;

/// What `Verify` says against `schedule`; empty if nothing.
std::string Complaint(const Schedule& schedule) {
  try {
    (void)Verify(schedule);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.where(), HasSubstr("schedule " + schedule.name));
    return error.what();
  }
  return "";
}

class EverySchedule : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Verify, EverySchedule, ::testing::ValuesIn(ScheduleNames()),
                         [](const auto& test) { return "of_" + test.param; });

TEST_P(EverySchedule, IsSoundWithinItsBoundsAtAllSizes) {
  const ActionCosts costs{.forward = 1, .backward_input = 0.5, .backward_weight = 0.5};
  for (int stages = 1; stages <= 16; ++stages) {
    for (int microbatches = 1; microbatches <= 33; ++microbatches) {
      SCOPED_TRACE(fmt::format("{} stages, {} microbatches", stages, microbatches));
      const Schedule schedule = MakeSchedule(GetParam(), stages, 1, microbatches);
      const ScheduleReport report = Verify(schedule, costs);
      EXPECT_EQ(report.max_in_flight, schedule.in_flight_bound) << "the promise is tight";
      EXPECT_DOUBLE_EQ(report.makespan, 2.0 * (microbatches + stages - 1));
      EXPECT_NEAR(report.bubble_fraction, (stages - 1.0) / (microbatches + stages - 1), 1e-12);
    }
  }
}

TEST_P(EverySchedule, IsVerifiedQuicklyForThousandStages) {
  const Schedule schedule = MakeSchedule(GetParam(), 1000, 1, 500);
  const ScheduleReport report = Verify(schedule);
  EXPECT_DOUBLE_EQ(report.makespan, 3.0 * 1499);
  EXPECT_NEAR(report.bubble_fraction, 999.0 / 1499, 1e-12);
}

TEST_P(EverySchedule, DoesNotDependOnWhatAnActionCostsToBeSound) {
  const ActionCosts costs{.forward = 2, .backward_input = 0, .backward_weight = 7, .transfer = 1.5};
  EXPECT_NO_THROW(Verify(MakeSchedule(GetParam(), 5, 1, 9), costs));
}

TEST_P(EverySchedule, LosesSoundnessWithAnyActionDroppedOrDoubled) {
  const Schedule schedule = MakeSchedule(GetParam(), 4, 1, 6);
  for (int rank = 0; rank < schedule.stages; ++rank) {
    for (size_t position = 0; position < schedule.ranks[rank].size(); ++position) {
      Schedule dropped = schedule;
      dropped.ranks[rank].erase(dropped.ranks[rank].begin() + position);
      EXPECT_THAT(Complaint(dropped), HasSubstr(fmt::format("rank {}", rank)));
      Schedule doubled = schedule;
      doubled.ranks[rank].insert(doubled.ranks[rank].begin() + position,
                                 schedule.ranks[rank][position]);
      EXPECT_THAT(Complaint(doubled), HasSubstr(fmt::format("rank {}", rank)));
    }
  }
}

TEST(Verify, AgreesWithBruteForceAboutRandomSwaps) {
  std::vector<Schedule> originals = {
      testing::InterleavedByHand(), testing::ZeroBubbleByHand(), testing::VShapedByHand(),
      // Deadlocks: rank 1 wants all forwards first, rank 0 does not.
      MakeByHand("crossed", {{0}, {1}}, 2, {"F0 B0 F1 B1", "F0 F1 B0 B1"})};
  for (const std::string& name : ScheduleNames()) {
    originals.push_back(MakeSchedule(name, 3, 1, 4));
    originals.push_back(MakeSchedule(name, 2, 1, 3));
  }
  std::mt19937 random(7);
  int sound = 0;
  int unsound = 0;
  int rendezvous_safe = 0;
  int rendezvous_unsafe = 0;
  for (const Schedule& original : originals) {
    for (int trial = 0; trial < 2000; ++trial) {
      Schedule mutant = original;
      for (int swaps = static_cast<int>(random() % 3); swaps >= 0; --swaps) {
        std::vector<Action>& actions = mutant.ranks[random() % mutant.ranks.size()];
        std::swap(actions[random() % actions.size()], actions[random() % actions.size()]);
      }
      const bool expected = testing::SoundByBruteForce(mutant);
      const std::string complaint = Complaint(mutant);
      ASSERT_EQ(complaint.empty(), expected) << original.name << ": " << complaint;
      ++(expected ? sound : unsound);
      if (!expected) continue;
      const bool safe = testing::RendezvousSafeByBruteForce(mutant);
      ASSERT_EQ(Verify(mutant).rendezvous_safe, safe) << original.name;
      ++(safe ? rendezvous_safe : rendezvous_unsafe);
    }
  }
  EXPECT_GT(sound, 500) << "the trials say little if nearly all are unsound";
  EXPECT_GT(unsound, 500);
  EXPECT_GT(rendezvous_safe, 100);
  EXPECT_GT(rendezvous_unsafe, 100);
}

TEST(Verify, AcceptsInterleavedSchedules) {
  const ScheduleReport report = Verify(testing::InterleavedByHand());
  EXPECT_THAT(report.max_in_flight, ElementsAre(5, 3));
  // 8 forwards and backwards of cost 1 + 2 a rank; the bubble is p - 1 of a chunk, not of a stage.
  EXPECT_DOUBLE_EQ(report.makespan, 8 * 3 + 3);
}

TEST(Verify, AcceptsSplitBackwards) {
  const ScheduleReport report = Verify(testing::ZeroBubbleByHand());
  EXPECT_THAT(report.max_in_flight, ElementsAre(2, 2));
  // 3 microbatches of F, I and W on each rank; 1F1B would take 12.
  EXPECT_DOUBLE_EQ(report.makespan, 10);
  EXPECT_DOUBLE_EQ(Verify(MakeSchedule("1f1b", 2, 1, 3)).makespan, 12);
}

TEST(Verify, AcceptsVShapedPlacements) {
  const ScheduleReport report = Verify(testing::VShapedByHand());
  EXPECT_THAT(report.max_in_flight, ElementsAre(4, 4));
}

TEST(Verify, SaysWhichSchedulesNeedBufferedSends) {
  for (int stages = 1; stages <= 6; ++stages) {
    for (int microbatches = 1; microbatches <= 6; ++microbatches) {
      EXPECT_TRUE(Verify(MakeSchedule("gpipe", stages, 1, microbatches)).rendezvous_safe);
      EXPECT_EQ(Verify(MakeSchedule("1f1b", stages, 1, microbatches)).rendezvous_safe,
                stages == 1 || microbatches == 1);
    }
  }
  EXPECT_TRUE(Verify(MakeByHand("v", {{0, 3}, {1, 2}}, 1, {"F0 F0.1 B0.1 B0", "F0 F0.1 B0.1 B0"}))
                  .rendezvous_safe);
  EXPECT_FALSE(Verify(testing::VShapedByHand()).rendezvous_safe);
}

TEST(Verify, NamesWhatIsMissingOrDoneTwice) {
  const std::string good = "F0 I0 W0 F1 B1";
  const auto complaint = [&](const std::string& bad) {
    return Complaint(MakeByHand("s", {{0}, {1}}, 2, {good, bad}));
  };
  EXPECT_EQ(complaint(good), "");
  EXPECT_EQ(complaint("F0 B0 F1"),
            "schedule s: rank 1: the backward of microbatch 1, chunk 0 is missing");
  EXPECT_EQ(complaint("F0 B0"),
            "schedule s: rank 1: the forward of microbatch 1, chunk 0 is missing");
  EXPECT_EQ(
      complaint("F0 I0 F1 B1"),
      "schedule s: rank 1: the weight half of the backward of microbatch 0, chunk 0 is missing");
  EXPECT_EQ(complaint("F0 B0 F1 B1 F1"), "schedule s: rank 1, action 4 (F1): this was done before");
  EXPECT_EQ(complaint("F0 I0 B0 F1 B1"), "schedule s: rank 1, action 2 (B0): this was done before");
  EXPECT_EQ(complaint("F0 B0 B1 F1"), "schedule s: rank 1, action 2 (B1): runs before the forward");
  EXPECT_EQ(complaint("F0 W0 I0 F1 B1"),
            "schedule s: rank 1, action 1 (W0): runs before the backward");
}

TEST(Verify, RefusesFieldsOutOfRange) {
  for (const char* action : {"F2", "F-1", "F0.1", "B0.-1"}) {
    EXPECT_THAT(Complaint(MakeByHand("s", {{0}}, 2, {std::string("F0 B0 F1 B1 ") + action})),
                HasSubstr("rank 0, action 4"))
        << action;
  }
}

TEST(Verify, RefusesListsThatDoNotFitTheStages) {
  Schedule schedule = MakeSchedule("1f1b", 2, 1, 2);
  schedule.ranks.pop_back();
  EXPECT_THAT(Complaint(schedule), HasSubstr("1 lists of actions, for 2 stages"));
  schedule = MakeSchedule("1f1b", 2, 1, 2);
  schedule.in_flight_bound.clear();
  EXPECT_THAT(Complaint(schedule), HasSubstr("0 promises"));
  schedule = MakeSchedule("1f1b", 2, 1, 2);
  schedule.microbatches = 0;
  EXPECT_THAT(Complaint(schedule), HasSubstr("0 microbatches"));
}

TEST(Verify, FindsMessagesReceivedOutOfOrder) {
  EXPECT_EQ(Complaint(MakeByHand("s", {{0}, {1}}, 2, {"F0 F1 B0 B1", "F1 F0 B0 B1"})),
            "schedule s: rank 1, action 0 (F1): would receive out of order: what rank 0 sends by "
            "action 0 (F0)");
  EXPECT_EQ(Complaint(MakeByHand("s", {{0}, {1}}, 2, {"F0 F1 I1 I0 W0 W1", "F0 F1 B0 B1"})),
            "schedule s: rank 0, action 2 (I1): would receive out of order: what rank 1 sends by "
            "action 2 (B0)");
}

TEST(Verify, SharesAChannelAmongTheChunksOfTwoRanks) {
  // Rank 0 sends F0, F0.1, F1; rank 1 wants F1 before F0.1. Each chunk by itself is in order.
  EXPECT_EQ(
      Complaint(MakeByHand("s", {{0, 2}, {1, 3}}, 2,
                           {"F0 F0.1 F1 F1.1 B0.1 B1.1 B0 B1", "F0 F1 F0.1 F1.1 B0.1 B1.1 B0 B1"})),
      "schedule s: rank 1, action 1 (F1): would receive out of order: what rank 0 sends by "
      "action 1 (F0.1)");
}

TEST(Verify, LetsARankHandItsOwnResultsOverInAnyOrder) {
  EXPECT_EQ(Complaint(MakeByHand("s", {{0, 1}}, 2, {"F0 F1 F1.1 F0.1 B0.1 B1.1 B0 B1"})), "");
}

TEST(Verify, FindsWeightGradientsAddedOutOfOrder) {
  EXPECT_THAT(Complaint(MakeByHand("s", {{0}}, 2, {"F0 F1 B1 B0"})),
              HasSubstr("rank 0, action 2 (B1): adds weight gradients out of order; those of "
                        "microbatch 0 are due"));
}

TEST(Verify, NamesTheCircleOfADeadlock) {
  const Schedule schedule =
      MakeByHand("s", {{0}, {1}, {2}}, 2, {"F0 F1 B0 B1", "F0 B0 F1 B1", "F0 F1 B0 B1"});
  EXPECT_THAT(Complaint(schedule),
              HasSubstr("deadlock; rank 1 stands at action 1 (B0) and waits for rank 2; rank 2 "
                        "stands at action 1 (F1) and waits for rank 1"));
  EXPECT_THROW(Simulate(schedule), Error);
}

TEST(Verify, FindsARankThatWaitsForItself) {
  EXPECT_THAT(Complaint(MakeByHand("s", {{0, 1}}, 1, {"F0.1 F0 B0.1 B0"})),
              HasSubstr("rank 0 stands at action 0 (F0.1) and waits for rank 0"));
}

TEST(Verify, FindsABrokenPromiseOfMemory) {
  Schedule schedule = MakeSchedule("1f1b", 3, 1, 5);
  std::swap(schedule.ranks[1][2], schedule.ranks[1][3]);
  EXPECT_EQ(Complaint(schedule),
            "schedule 1f1b: rank 1, action 2 (F2): holds the activations of 3 microbatches; the "
            "schedule promises at most 2");
}

TEST(Simulate, TimesEveryAction) {
  const ActionCosts costs{.forward = 2, .backward_input = 3, .backward_weight = 1, .transfer = 0.5};
  const std::vector<Timed> timeline = Simulate(MakeSchedule("1f1b", 2, 1, 2), costs);
  std::vector<std::string> lines;
  lines.reserve(timeline.size());
  for (const Timed& timed : timeline) {
    lines.push_back(
        fmt::format("{} {} {}-{}", timed.rank, ToString(timed.action), timed.start, timed.end));
  }
  EXPECT_THAT(lines,
              ElementsAre("0 F0 0-2", "0 F1 2-4", "0 B0 9-13", "0 B1 15-19",  //
                          "1 F0 2.5-4.5", "1 B0 4.5-8.5", "1 F1 8.5-10.5", "1 B1 10.5-14.5"));
}

TEST(Simulate, ChargesTransfersBetweenRanksOnly) {
  // Down the V, up, and the same way back: four messages, and two that stay within rank 1.
  const Schedule v = MakeByHand("v", {{0, 3}, {1, 2}}, 1, {"F0 F0.1 B0.1 B0", "F0 F0.1 B0.1 B0"});
  EXPECT_DOUBLE_EQ(Verify(v, {.transfer = 0.25}).makespan, 4 * 3 + 4 * 0.25);
}

TEST(Simulate, NeverOverlapsActionsOfARankNorOvertakesAnInput) {
  for (const Schedule& schedule :
       {testing::InterleavedByHand(), testing::ZeroBubbleByHand(), testing::VShapedByHand()}) {
    const ActionCosts costs{.transfer = 0.25};
    const Wiring wiring(schedule);
    const std::vector<Timed> timeline = Simulate(schedule, costs);
    for (size_t i = 1; i < timeline.size(); ++i) {
      if (timeline[i].rank != timeline[i - 1].rank) continue;
      EXPECT_GE(timeline[i].start, timeline[i - 1].end);
    }
    for (const Timed& made : timeline) {
      const auto to = wiring.Destination(made.rank, made.action);
      for (const Timed& used : timeline) {
        if (!to || used.rank != to->rank || used.action.chunk != to->chunk ||
            used.action.microbatch != made.action.microbatch ||
            wiring.Source(used.rank, used.action) != Place{made.rank, made.action.chunk} ||
            (used.action.kind == ActionKind::kForward) !=
                (made.action.kind == ActionKind::kForward)) {
          continue;
        }
        EXPECT_GE(used.start, made.end + (used.rank == made.rank ? 0 : costs.transfer));
      }
    }
  }
}

}  // namespace
}  // namespace cairn
