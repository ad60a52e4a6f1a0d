#include "parallel/pipeline/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "parallel/pipeline/verify.h"
#include "runtime/base/error.h"
#include "tests/parallel/pipeline/schedules_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ParseActions;

/// The error that `MakeSchedule` throws for the arguments.
Error ErrorOf(const std::string& name, int stages, int chunks, int microbatches) {
  try {
    (void)MakeSchedule(name, stages, chunks, microbatches);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorKind::kInternal, "", ""};
}

TEST(Schedule, GpipeRunsAllForwardsThenAllBackwards) {
  const Schedule schedule = MakeSchedule("gpipe", 2, 1, 3);
  EXPECT_THAT(schedule.ranks,
              ElementsAre(ParseActions("F0 F1 F2 B0 B1 B2"), ParseActions("F0 F1 F2 B0 B1 B2")));
  EXPECT_THAT(schedule.in_flight_bound, ElementsAre(3, 3));
}

TEST(Schedule, OneForwardOneBackwardAlternatesAfterItsWarmup) {
  const Schedule schedule = MakeSchedule("1f1b", 3, 1, 4);
  EXPECT_THAT(schedule.ranks, ElementsAre(ParseActions("F0 F1 F2 B0 F3 B1 B2 B3"),
                                          ParseActions("F0 F1 B0 F2 B1 F3 B2 B3"),
                                          ParseActions("F0 B0 F1 B1 F2 B2 F3 B3")));
  EXPECT_THAT(schedule.in_flight_bound, ElementsAre(3, 2, 1));
}

TEST(Schedule, FewMicrobatchesShortenTheWarmup) {
  const Schedule schedule = MakeSchedule("1f1b", 4, 1, 2);
  EXPECT_EQ(schedule.ranks[0], ParseActions("F0 F1 B0 B1"));
  EXPECT_EQ(schedule.ranks[2], ParseActions("F0 F1 B0 B1"));
  EXPECT_EQ(schedule.ranks[3], ParseActions("F0 B0 F1 B1"));
  EXPECT_THAT(schedule.in_flight_bound, ElementsAre(2, 2, 2, 1));
}

TEST(Schedule, OneStageNeedsNoPipeline) {
  EXPECT_THAT(MakeSchedule("1f1b", 1, 1, 2).ranks, ElementsAre(ParseActions("F0 B0 F1 B1")));
}

TEST(Schedule, UnknownNamesAreRefusedWithTheListOfKnownOnes) {
  const Error error = ErrorOf("1f2b", 2, 1, 2);
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.where(), "parallel.pipeline_schedule");
  EXPECT_THAT(error.message(), HasSubstr("\"1f2b\""));
  for (const std::string& name : ScheduleNames()) EXPECT_THAT(error.message(), HasSubstr(name));
}

TEST(Schedule, SizesThatDoNotFitAreRefused) {
  constexpr int kHuge = std::numeric_limits<int>::max();
  for (const std::string& name : ScheduleNames()) {
    EXPECT_EQ(ErrorOf(name, 0, 1, 2).where(), "parallel.pipeline_model_parallel_size");
    EXPECT_EQ(ErrorOf(name, -1, 1, 2).where(), "parallel.pipeline_model_parallel_size");
    EXPECT_EQ(ErrorOf(name, 2, 1, 0).where(), "train.global_batch_size");
    EXPECT_EQ(ErrorOf(name, 2, 2, 2).where(), "parallel.virtual_pipeline_model_parallel_size");
    EXPECT_EQ(ErrorOf(name, 2, 0, 2).where(), "parallel.virtual_pipeline_model_parallel_size");
    EXPECT_EQ(ErrorOf(name, kHuge, 1, kHuge).kind(), ErrorKind::kConfig);
    EXPECT_EQ(ErrorOf(name, kHuge, 1, 1).kind(), ErrorKind::kConfig);
    EXPECT_EQ(ErrorOf(name, 1, 1, kHuge).kind(), ErrorKind::kConfig);
  }
}

TEST(Schedule, ActionsHaveShortNames) {
  EXPECT_EQ(ToString({ActionKind::kForward, 3, 0}), "F3");
  EXPECT_EQ(ToString({ActionKind::kBackward, 12, 1}), "B12.1");
  EXPECT_EQ(ToString({ActionKind::kBackwardInput, 0, 0}), "I0");
  EXPECT_EQ(ToString({ActionKind::kBackwardWeight, 7, 2}), "W7.2");
}

TEST(Wiring, JoinsNeighboursOfAStraightPipeline) {
  const Wiring wiring(MakeSchedule("1f1b", 3, 1, 1));
  const Action forward{ActionKind::kForward, 0, 0};
  const Action backward{ActionKind::kBackward, 0, 0};
  EXPECT_EQ(wiring.Source(0, forward), std::nullopt);
  EXPECT_EQ(wiring.Destination(0, forward), (Place{1, 0}));
  EXPECT_EQ(wiring.Source(1, forward), (Place{0, 0}));
  EXPECT_EQ(wiring.Destination(2, forward), std::nullopt);
  EXPECT_EQ(wiring.Source(2, backward), std::nullopt);
  EXPECT_EQ(wiring.Destination(2, backward), (Place{1, 0}));
  EXPECT_EQ(wiring.Source(0, backward), (Place{1, 0}));
  EXPECT_EQ(wiring.Destination(0, backward), std::nullopt);
}

TEST(Wiring, FollowsThePlacement) {
  const Schedule looped = testing::InterleavedByHand();
  EXPECT_EQ(VirtualStage(looped, 0, 1), 2);
  EXPECT_EQ(Wiring(looped).Destination(1, {ActionKind::kForward, 0, 0}), (Place{0, 1}));
  EXPECT_EQ(Wiring(looped).Destination(0, {ActionKind::kBackward, 0, 1}), (Place{1, 0}));

  const Wiring v(testing::VShapedByHand());
  EXPECT_EQ(v.virtual_stages(), 4);
  EXPECT_EQ(v.Destination(1, {ActionKind::kForward, 0, 1}), (Place{0, 1}));
  EXPECT_EQ(v.Destination(1, {ActionKind::kForward, 0, 0}), (Place{1, 1})) << "the tip of the V";
  EXPECT_EQ(v.Source(1, {ActionKind::kBackwardInput, 0, 1}), (Place{0, 1}));
  EXPECT_EQ(v.Source(1, {ActionKind::kBackwardWeight, 0, 1}), std::nullopt);
  EXPECT_EQ(v.Destination(1, {ActionKind::kBackwardWeight, 0, 1}), std::nullopt);
}

TEST(Wiring, RefusesPlacementsThatAreNoBijection) {
  const std::vector<std::vector<std::vector<int>>> wrong = {
      {{0}, {0}}, {{0}, {2}}, {{-1}, {0}}, {{0}}, {{0, 1}, {2, 3}}, {{0}, {}}, {}};
  for (const auto& placement : wrong) {
    Schedule schedule = MakeSchedule("1f1b", 2, 1, 1);
    schedule.placement = placement;
    EXPECT_THROW(Wiring{schedule}, Error);
    EXPECT_THROW(Verify(schedule), Error);
  }
}

}  // namespace
}  // namespace cairn
