#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../launcher/layouts/checkpoint_runs_testing.h"
#include "fake_training_testing.h"
#include "parallel/pipeline/schedule.h"

namespace cairn::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(FakeTrainingTest, EveryScheduleAndLayout) {
  for (const std::string& schedule : ScheduleNames()) {
    for (const int ranks : {1, 2, 4, 8}) {
      for (Layout layout : LayoutsOf(ranks)) {
        if (layout.tp > 2 || layout.dp > 2 || layout.pp > 4) continue;
        layout.schedule = schedule;
        layout.micro_batch_size = 1;
        ExpectClean({.layout = layout, .steps = 2});
      }
    }
  }
}

// NCCL asks that operations of several communicators on one GPU fit beside each other, or come in
// one order everywhere. Two at a time are enough for ours; one is not, as the last line shows.
TEST(FakeTrainingTest, TwoOperationsOfNcclBesideEachOther) {
  const Layout pipelines{.pp = 4, .dp = 2, .zero = true, .micro_batch_size = 1};
  for (const std::string& schedule : ScheduleNames()) {
    for (Layout layout :
         {Layout{.tp = 2, .pp = 2, .dp = 2, .zero = true, .micro_batch_size = 1}, pipelines}) {
      layout.schedule = schedule;
      for (unsigned seed = 0; seed < 5; ++seed) {
        ExpectClean({.layout = layout, .behaviour = {.nccl_at_once = 2, .seed = seed}});
      }
    }
  }
  EXPECT_THAT(TrainOnFakes({.layout = pipelines, .behaviour = {.nccl_at_once = 1}}).problems,
              ElementsAre(StartsWith("deadlock")));
}

TEST(FakeTrainingTest, EveryOption) {
  const FakeRun base{.layout = {.tp = 2, .pp = 2, .dp = 2, .micro_batch_size = 1}};
  for (FakeRun run : WithEveryOption(base)) {
    for (const fake::Answers answers : {fake::Answers::kLate, fake::Answers::kEarly}) {
      run.behaviour.answers = answers;
      ExpectClean(run);
    }
  }
}

// A copy that was not waited for leaves NaNs behind.
int64_t CountNotFinite(const CheckpointContent& content) {
  int64_t count = 0;
  for (const auto& [name, bytes] : content.tensors) {
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    count += std::ranges::count_if(values, [](float x) { return !std::isfinite(x); });
  }
  return count;
}

TEST(FakeTrainingTest, CheckpointsBesideTraining) {
  const RunFolders folders;
  for (const bool zero : {false, true}) {
    for (const Layout& layout :
         {Layout{.zero = zero}, Layout{.pp = 2, .dp = 2, .zero = zero}, Layout{.tp = 2, .dp = 2}}) {
      ExpectClean({.layout = layout, .save_into = folders / "run"});
      EXPECT_EQ(fake::Calls(0, "cudaHostAlloc"), 1);  // the snapshot is in pinned memory
      const CheckpointContent content = folders.ContentOf("run");
      EXPECT_FALSE(content.tensors.empty());
      EXPECT_EQ(CountNotFinite(content), 0);
      folders.Remove("run");
    }
  }
}

}  // namespace
}  // namespace cairn::testing
