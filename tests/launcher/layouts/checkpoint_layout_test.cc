// A checkpoint belongs to the model: any layout loads what any layout saved.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "layouts_testing.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_saver.h"
#include "parallel/local_communicator.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;

#ifdef CAIRN_SANITIZED
constexpr int kBefore = 1;
constexpr int kAfter = 1;
constexpr size_t kLayouts = 3;
#else
constexpr int kBefore = 3;
constexpr int kAfter = 3;
constexpr size_t kLayouts = 8;
#endif

class CheckpointLayoutTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("cairn-layouts-{}-{}", getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string RunDir(const std::string& name) const { return (folder_ / name).string(); }

  // Trains `iterations` more from `from` (or from the start) and saves into `into`.
  std::vector<Point> Continue(const Layout& layout, int iterations, const std::string& from,
                              const std::string& into) {
    Hooks hooks;
    if (!from.empty()) {
      hooks.start = [&](TrainEngine& engine, Communicator&) {
        CheckpointReader reader(ResolveCheckpoint(RunDir(from)));
        engine.Load(reader);
        engine.Publish();
      };
    }
    hooks.end = [&](TrainEngine& engine, Communicator& world) {
      SaveCheckpoint(world, RunDir(into), engine.Describe(), engine.State());
    };
    return Train(layout, iterations, hooks);
  }

  // Every tensor of a run's newest checkpoint, whole.
  std::map<std::string, std::vector<float>> State(const std::string& run) const {
    CheckpointReader reader(ResolveCheckpoint(RunDir(run)));
    std::map<std::string, std::vector<float>> state;
    for (const TensorEntry& tensor : reader.manifest().tensors) {
      int64_t numel = 1;
      for (int64_t extent : tensor.shape) numel *= extent;
      std::vector<float>& values = state[tensor.name + "@" + tensor.kind];
      values.resize(numel);
      const std::vector<int64_t> zeros(tensor.shape.size(), 0);
      reader.Read(tensor.name, tensor.kind, zeros, tensor.shape,
                  std::as_writable_bytes(std::span(values)));
    }
    return state;
  }

  fs::path folder_;
};

TEST_F(CheckpointLayoutTest, ResumeInTheSameLayoutIsBitwise) {
  for (const Layout& layout : {Layout{}, Layout{.tp = 2, .pp = 2, .sequence_parallel = true},
                               Layout{.pp = 3, .dp = 2, .zero = true, .precision = "bf16"},
                               Layout{.tp = 2, .dp = 2, .zero = true, .precision = "fp16"}}) {
    const std::vector<Point> whole = Train(layout, kBefore + kAfter);
    const std::string name = layout.Name();
    Continue(layout, kBefore, "", name);
    const std::vector<Point> resumed = Continue(layout, kAfter, name, name + "-resumed");
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
      CheckpointSaver saver(world, {.run_dir = RunDir(name)});
      saver.Save(engine.Describe(), engine.State());
      bool collected = false;
      for (int i = 0; i < kAfter; ++i) {
        const auto outcome = engine.Step(ReadTestSample, {.save_finished = saver.finished()});
        if (!outcome.status.save_finished) continue;
        EXPECT_FALSE(saver.Collect().error);
        collected = true;
      }
      if (!collected) {
        EXPECT_FALSE(saver.Collect().error);
      }
    };
    Train(layout, kBefore, hooks);
    EXPECT_EQ(Continue(layout, kAfter, name, name + "-resumed"),
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
      const StepStatus all = engine.Step(ReadTestSample, own).status;
      EXPECT_EQ(all.save_finished, ended == world.size());
      EXPECT_EQ(all.stop_requested, ended == 1);
    }
  };
  for (const bool deterministic : {false, true}) {
    Train({.tp = 2, .pp = 2, .deterministic = deterministic}, 0, hooks);
  }
}

TEST_F(CheckpointLayoutTest, AnyLayoutLoadsWhatAnyLayoutSaved) {
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
    const std::string saved = fmt::format("saved-{}", i);
    Continue(layouts[i], kBefore, "", saved);
    const auto state = State(saved);
    ASSERT_FALSE(state.empty());
    for (size_t j = 0; j < layouts.size(); ++j) {
      const std::string trip = fmt::format("trip-{}-{}", i, j);
      Continue(layouts[j], 0, saved, trip);
      EXPECT_EQ(State(trip), state) << layouts[i].Name() << " -> " << layouts[j].Name();
    }
    const Layout& other = layouts[(i + 3) % layouts.size()];
    const std::string on = fmt::format("on-{}", i);
    EXPECT_LE(LargestDeviation(Continue(other, kAfter, saved, on), rest), 2e-5)
        << layouts[i].Name() << " -> " << other.Name();
  }
}

TEST_F(CheckpointLayoutTest, ACheckpointOfAnotherModelIsRefused) {
  Continue({}, 0, "", "model");
  TrainConfig other = LayoutConfig({});
  other.mutable_model()->set_num_layers(9);
  const std::unique_ptr<Communicator> world = NewSingleCommunicator();
  const std::unique_ptr<Device> device = NewCpuDevice();
  const Mesh mesh(*world, {});
  TrainEngine engine(other, mesh, *device);
  CheckpointReader reader(ResolveCheckpoint(RunDir("model")));
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
