#include <gmock/gmock.h>
#include <stdlib.h>

#include <future>
#include <memory>

#include "fake_training_testing.h"

namespace cairn::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A full GPU, at every allocation there is: blocks of other sizes make room, or the run ends with
// the allocator's error; nothing is lost either way.
TEST(FaultsTest, OutOfMemory) {
  const FakeRun run{.layout = {}, .steps = 1};
  TrainOnFakes(run);
  const int64_t allocations = fake::Calls(0, "cudaMalloc");
  ASSERT_GT(allocations, 10);
  int refused = 0;
  for (int64_t index = 0; index < allocations; ++index) {
    FakeRun full = run;
    full.behaviour.omission = {0, "cudaMalloc", index};
    const FakeOutcome outcome = TrainOnFakes(full);
    EXPECT_THAT(outcome.problems, IsEmpty()) << index;
    EXPECT_THAT(outcome.error, AnyOf("", HasSubstr("were refused; in use: parameters"))) << index;
    refused += outcome.error.empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 0);
}

// NCCL reports a peer that is gone while kernels wait for it: every rank ends, with that reason.
TEST(FaultsTest, APeerIsGone) {
  for (const bool graphs : {false, true}) {
    FakeRun run{.layout = {.pp = 2, .dp = 2}, .steps = 1000};
    run.graphs = graphs;
    run.before_step = [](int rank, int step) {
      if (rank == 1 && step == 3) fake::BreakNetwork();
    };
    const FakeOutcome outcome = TrainOnFakes(run);
    EXPECT_THAT(outcome.error, HasSubstr("remote process exited or there was a network error"));
    EXPECT_THAT(outcome.problems, IsEmpty());
  }
}

// Nor is a rank left behind whose host waits for another outside of NCCL: its watch ends the job,
// ten seconds later.
TEST(FaultsTest, APeerIsGoneWhileTheHostWaits) {
  std::promise<void> ended;
  const FakeOutcome outcome = RunOnFakes(2, [&](Communicator& world, Device&) {
    if (world.rank() == 1) return ended.get_future().wait();
    const std::shared_ptr<void> at_end(nullptr, [&](void*) { ended.set_value(); });
    fake::BreakNetwork();
    world.AllGatherBytes("");
  });
  EXPECT_THAT(outcome.error, HasSubstr("remote process exited or there was a network error"));
  EXPECT_THAT(outcome.problems, IsEmpty());
}

TEST(FaultsTest, RanksThatShareAGpuTalkThroughHostMemory) {
  for (const Layout& layout : {Layout{.tp = 2, .dp = 2}, Layout{.pp = 2, .dp = 2, .zero = true}}) {
    const FakeOutcome outcome = TrainOnFakes({.layout = layout, .shared_gpu = true});
    EXPECT_EQ(outcome.error, "");
    EXPECT_THAT(outcome.problems, IsEmpty());
  }
}

// By graphs, which nothing but NCCL can be recorded into.
FakeOutcome TrainBesideEachOther(const Layout& layout, int nccl_version) {
  FakeRun run{.layout = layout, .shared_gpu = true, .graphs = true};
  run.behaviour.nccl_version = nccl_version;
  run.behaviour.nccl_at_once = 16;  // as many of each rank as a GPU of its own had room for
  setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
  const FakeOutcome outcome = TrainOnFakes(run);
  unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return outcome;
}

TEST(FaultsTest, RanksThatShareAGpuTalkOverNcclWhereItTakesThem) {
  for (const Layout& layout : {Layout{.tp = 2, .dp = 2}, Layout{.pp = 2, .dp = 2, .zero = true}}) {
    const FakeOutcome outcome = TrainBesideEachOther(layout, 23000);
    EXPECT_EQ(outcome.error, "");
    EXPECT_THAT(outcome.problems, IsEmpty());
  }
  ::testing::internal::CaptureStderr();
  EXPECT_THAT(TrainBesideEachOther({.dp = 2}, 22999).error, HasSubstr("share a GPU"));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("not over NCCL (rank 0: NCCL 2.29 is older than 2.30)"));
}

}  // namespace
}  // namespace cairn::testing
