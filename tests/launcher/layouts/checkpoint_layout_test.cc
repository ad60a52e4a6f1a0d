// A checkpoint belongs to the model: any layout loads what any layout saved.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint_runs_testing.h"
#include "layouts_testing.h"
#include "parallel/checkpoint_saver.h"
#include "parallel/local_communicator.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"

namespace cairn::testing {
namespace {

#ifdef CAIRN_SANITIZED
constexpr int kBefore = 1;
constexpr int kAfter = 1;
constexpr size_t kLayouts = 4;
#else
constexpr int kBefore = 3;
constexpr int kAfter = 3;
constexpr size_t kLayouts = 8;
#endif

void ReadSample(int64_t index, std::span<int32_t> tokens) {
  ReadTestSample(index, tokens, ModelSize().vocabulary);
}

class CheckpointLayoutTest : public ::testing::Test {
 protected:
  RunFolders runs_;
};

TEST_F(CheckpointLayoutTest, ResumeInTheSameLayoutIsBitwise) {
  for (const Layout& layout : {Layout{}, Layout{.tp = 2, .pp = 2, .sequence_parallel = true},
                               Layout{.pp = 3, .dp = 2, .zero = true, .precision = "bf16"},
                               Layout{.tp = 2, .dp = 2, .zero = true, .precision = "fp16"}}) {
    const std::vector<Point> whole = Train(layout, kBefore + kAfter);
    const std::string name = layout.Name();
    runs_.Train(layout, kBefore, "", name);
    const std::vector<Point> resumed = runs_.Train(layout, kAfter, name, name + "-resumed");
    EXPECT_EQ(resumed, std::vector<Point>(whole.begin() + kBefore, whole.end())) << name;
  }
}

TEST_F(CheckpointLayoutTest, TrainingOnDoesNotTouchWhatIsBeingSaved) {
  for (const Layout& layout :
       {Layout{}, Layout{.tp = 2, .dp = 2, .zero = true, .precision = "bf16"}}) {
    const std::vector<Point> whole = Train(layout, kBefore + kAfter);
    const std::string name = layout.Name();
    Hooks hooks;
    hooks.end = [&](TrainEngine& engine, Communicator& world) {
      CheckpointSaver saver(world, {.run_dir = runs_ / name});
      saver.Save(engine.Describe(), engine.State());
      bool collected = false;
      for (int i = 0; i < kAfter; ++i) {
        const auto outcome = engine.Step(ReadSample, {.save_finished = saver.finished()});
        if (!outcome.status.save_finished) continue;
        EXPECT_FALSE(saver.Collect().error);
        collected = true;
      }
      if (!collected) {
        EXPECT_FALSE(saver.Collect().error);
      }
    };
    Train(layout, kBefore, hooks);
    EXPECT_EQ(runs_.Train(layout, kAfter, name, name + "-resumed"),
              std::vector<Point>(whole.begin() + kBefore, whole.end()))
        << name;
  }
}

TEST_F(CheckpointLayoutTest, TheEndOfASaveIsToldWhenAllRanksHaveIt) {
  Hooks hooks;
  hooks.end = [](TrainEngine& engine, Communicator& world) {
    // In turn: nobody, some, all.
    for (int ended = 0; ended <= world.size(); ++ended) {
      const StepStatus own = {.stop_requested = ended == 1 && world.rank() == 1,
                              .save_finished = world.rank() < ended};
      const StepStatus all = engine.Step(ReadSample, own).status;
      EXPECT_EQ(all.save_finished, ended == world.size());
      EXPECT_EQ(all.stop_requested, ended == 1);
    }
  };
  for (const bool deterministic : {false, true}) {
    Train({.tp = 2, .pp = 2, .deterministic = deterministic}, 0, hooks);
  }
}

TEST_F(CheckpointLayoutTest, AnotherLayoutGoesOnWithTheSameLoss) {
  std::vector<Layout> layouts = {
      {.tp = 2, .pp = 2, .dp = 2, .zero = true},
      {},
      {.tp = 2},
      {.tp = 3, .pp = 2, .sequence_parallel = true},
      {.pp = 3},
      {.dp = 3, .zero = true},
      {.tp = 8},
      {.pp = 5},
  };
  layouts.resize(kLayouts);
  const std::vector<Point> whole = Train({}, kBefore + kAfter);
  const std::vector<Point> rest(whole.begin() + kBefore, whole.end());
  for (size_t i = 0; i < layouts.size(); ++i) {
    const Layout& other = layouts[(i + 3) % layouts.size()];
    const std::string saved = fmt::format("saved-{}", i);
    runs_.Train(layouts[i], kBefore, "", saved);
    EXPECT_LE(LargestDeviation(runs_.Train(other, kAfter, saved, "on"), rest), 2e-5)
        << layouts[i].Name() << " -> " << other.Name();
    runs_.Remove("on");
  }
}

TEST_F(CheckpointLayoutTest, DeterministicTrainingGoesOnBitwise) {
  for (const int tp : {1, 2}) {
    // Only dp, pp and ZeRO change.
    std::vector<Layout> layouts = {{.dp = 2, .zero = true},
                                   {.pp = 3, .dp = 2},
                                   {},
                                   {.pp = 2, .dp = 3, .zero = true, .micro_batch_size = 1},
                                   {.pp = 5}};
    for (Layout& layout : layouts) {
      layout.tp = tp;
      layout.deterministic = true;
    }
    layouts.resize(std::min(layouts.size(), kLayouts - 3 * static_cast<size_t>(tp - 1)));
    const std::vector<Point> whole = Train(layouts[0], kBefore + kAfter);
    const std::vector<Point> rest(whole.begin() + kBefore, whole.end());
    for (size_t i = 0; i < layouts.size(); ++i) {
      const Layout& other = layouts[(i + 1) % layouts.size()];
      const std::string saved = fmt::format("tp{}-{}", tp, i);
      runs_.Train(layouts[i], kBefore, "", saved);
      EXPECT_EQ(runs_.Train(other, kAfter, saved, saved + "-on"), rest)
          << layouts[i].Name() << " -> " << other.Name();
    }
  }
}

TEST_F(CheckpointLayoutTest, ACheckpointOfAnotherModelIsRefused) {
  runs_.Train({}, 0, "", "model");
  TrainConfig other = LayoutConfig({});
  other.mutable_model()->set_num_layers(9);
  const std::unique_ptr<Communicator> world = NewSingleCommunicator();
  const std::unique_ptr<Device> device = NewCpuDevice();
  const Mesh mesh(*world, {});
  TrainEngine engine(other, mesh, *device);
  CheckpointReader reader(ResolveCheckpoint(runs_ / "model"));
  try {
    engine.Load(reader);
    FAIL() << "loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_NE(error.message().find("layers.8."), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace cairn::testing
