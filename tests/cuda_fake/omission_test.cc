#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "fake_training_testing.h"

namespace cairn::testing {
namespace {

using ::testing::IsSupersetOf;

bool Noticed(const FakeOutcome& outcome) {
  return !outcome.problems.empty() || !outcome.error.empty() ||
         std::ranges::any_of(outcome.points, [](const Point& point) {
           return !std::isfinite(point.lm_loss) || !std::isfinite(point.grad_norm);
         });
}

// Leaves out each wait for an event of `run` alone, from step `first` on: it is noticed, unless its
// stream goes on with what `may_be_idle` allows, of which only some needs its wait.
void ExpectEachIsNoticed(FakeRun run, int first,
                         const std::function<bool(const std::string& next)>& may_be_idle,
                         std::set<std::string>& noticed_all_the_same) {
  const int ranks = run.layout.ranks();
  std::vector<int64_t> begin(ranks);
  FakeRun counted = run;
  counted.before_step = [&](int rank, int step) {
    if (step == first) begin[rank] = fake::Calls(rank, "cudaStreamWaitEvent");
  };
  ASSERT_FALSE(Noticed(TrainOnFakes(counted))) << run.layout.Name();
  std::vector<int64_t> end;
  for (int device = 0; device < ranks; ++device) {
    end.push_back(fake::Calls(device, "cudaStreamWaitEvent"));
  }
  for (int device = 0; device < ranks; ++device) {
    for (int64_t index = begin[device]; index < end[device]; ++index) {
      run.behaviour.omission = {device, "cudaStreamWaitEvent", index};
      const bool noticed = Noticed(TrainOnFakes(run));
      const std::string next = fake::OmittedBefore();
      EXPECT_TRUE(noticed || may_be_idle(next))
          << run.layout.Name() << ", rank " << device << ", wait " << index << " before " << next;
      if (noticed && may_be_idle(next)) noticed_all_the_same.insert(next);
    }
  }
}

const std::vector<Layout>& Layouts() {
  static const std::vector<Layout> layouts = {
      {.pp = 2, .dp = 2, .zero = true},
      {.tp = 2, .dp = 2},
      {.pp = 3, .schedule = "gpipe"},
      {.tp = 2, .pp = 2, .sequence_parallel = true, .deterministic = true}};
  return layouts;
}

// But for those before a receive into memory that nothing else has used since the host last waited;
// others before receives are needed.
TEST(OmissionTest, OfEachWaitForAnEvent) {
  std::set<std::string> noticed;
  for (const Layout& layout : Layouts()) {
    ExpectEachIsNoticed(
        {.layout = layout, .steps = 1}, 0,
        [](const std::string& next) { return next.starts_with("Recv"); }, noticed);
  }
  EXPECT_FALSE(noticed.empty());
}

// In a step that is recorded and launched, and in one that is launched. Of the streams that a
// launch, or a recording's end, waits for, those that only receive have been waited for already,
// and after a launch all have.
TEST(OmissionTest, OfEachWaitOfARecording) {
  std::set<std::string> noticed;
  for (const Layout& layout : Layouts()) {
    FakeRun run{.layout = layout, .steps = 3};
    run.graphs = true;
    ExpectEachIsNoticed(
        run, 1,
        [](const std::string& next) {
          return next.starts_with("Recv") || next == "a graph's launch" ||
                 next == "a capture's end";
        },
        noticed);
  }
  EXPECT_THAT(noticed, IsSupersetOf({"a graph's launch", "a capture's end"}));
  EXPECT_GT(noticed.size(), 2u);
}

// One rank waits with its host for copies to the host alone; those from the host are the runtime's
// to take before it returns.
TEST(OmissionTest, OfTheWaitForTheLossOrTheNorm) {
  const FakeRun run{.layout = {}, .steps = 1};
  ASSERT_FALSE(Noticed(TrainOnFakes(run)));
  const int64_t waits = fake::Calls(0, "cudaStreamSynchronize");
  int noticed = 0;
  for (int64_t index = 0; index < waits; ++index) {
    FakeRun without = run;
    without.behaviour.omission = {0, "cudaStreamSynchronize", index};
    noticed += Noticed(TrainOnFakes(without)) ? 1 : 0;
  }
  EXPECT_GE(noticed, 3);  // loss and norm of the step, loss of the evaluation
}

}  // namespace
}  // namespace cairn::testing
