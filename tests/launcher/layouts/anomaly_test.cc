// A number that is not finite is named, whatever the layout; a step that is not applied changes
// nothing; a rewind is the run that never saw the data.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "layouts_testing.h"
#include "parallel/checkpoint.h"
#include "parallel/local_communicator.h"
#include "runtime/checkpoint/store.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kBatch = 24;
constexpr int32_t kRareToken = 60;

void ReadSample(int64_t index, std::span<int32_t> tokens) {
  ReadTestSample(index, tokens, ModelSize().vocabulary);
}

const std::vector<Layout>& Layouts() {
  static const std::vector<Layout> layouts = {
      {},
      {.tp = 2, .pp = 2, .dp = 2, .sequence_parallel = true, .zero = true},
      {.pp = 2, .dp = 2, .precision = "bf16", .recompute = "full"},
      {.tp = 2, .dp = 2, .zero = true, .precision = "fp16", .deterministic = true},
  };
  return layouts;
}

// This rank's engine of a run that starts afresh.
struct Rank {
  Rank(const TrainConfig& config, Communicator& world)
      : device(NewCpuDevice()),
        mesh(world, MakeMeshShape(config, world.size())),
        engine(config, mesh, *device) {
    engine.Initialize();
  }

  std::unique_ptr<Device> device;
  Mesh mesh;
  TrainEngine engine;
};

std::vector<std::vector<float>> Copies(TrainEngine& engine) {
  std::vector<std::vector<float>> copies;
  for (const StatePiece& piece : engine.State()) copies.push_back(piece.data.ToHost<float>());
  return copies;
}

// Sets row `row` of the logical tensor `name`, as far as this rank holds it.
void FillRow(TrainEngine& engine, const std::string& name, int64_t row, float value) {
  for (const StatePiece& piece : engine.State()) {
    if (piece.parameter->name != name || piece.kind != kWeightKind) continue;
    const Shape& local = piece.parameter->shard.local_shape;
    const int64_t width = local.numel() / local[0];
    const int64_t begin = (row - piece.parameter->shard.held.offset[0]) * width - piece.begin;
    for (int64_t i = std::max<int64_t>(begin, 0); i < std::min(begin + width, piece.data.numel());
         ++i) {
      Fill(piece.data.Narrow(0, i, 1), value);
    }
  }
}

void FillAll(TrainEngine& engine, const std::string& name, float value) {
  for (const StatePiece& piece : engine.State()) {
    if (piece.parameter->name == name && piece.kind == kWeightKind) Fill(piece.data, value);
  }
}

TEST(DiagnosisTest, ABadWeightIsNamedWithItsRank) {
  for (const Layout& layout : Layouts()) {
    const int bad_rank = layout.ranks() - 1;
    RunLocalRanks(layout.ranks(), [&](Communicator& world) {
      Rank rank(LayoutConfig(layout), world);
      std::string name;
      if (world.rank() == bad_rank) {
        const std::vector<StatePiece> state = rank.engine.State();
        const StatePiece& piece = state[state.size() / 6 * 3];  // weight, exp_avg, exp_avg_sq
        name = piece.parameter->name;
        Fill(piece.data.Narrow(0, piece.data.numel() / 2, 1), NAN);
      }
      name = world.AllGatherBytes(name)[bad_rank];
      rank.engine.Publish();
      const TrainEngine::StepOutcome outcome = rank.engine.Step(ReadSample);
      EXPECT_EQ(outcome.anomaly, LossAnomaly::kLossNotFinite) << layout.Name();
      EXPECT_TRUE(outcome.skipped);
      const Culprit culprit = rank.engine.Diagnose(ReadSample);
      EXPECT_TRUE(culprit.in_state) << culprit.text;
      EXPECT_THAT(culprit.text,
                  AllOf(HasSubstr(fmt::format("\"{}\" (weight)", name)),
                        HasSubstr(fmt::format("on rank {} (1 of ", bad_rank)), HasSubstr("nan")))
          << layout.Name();
    });
  }
}

// One sample of the second batch has a token whose embedding dropout makes too large for fp16.
TEST(DiagnosisTest, AnOverflowThatTheDataCausesIsNamedWithItsSamples) {
  constexpr int64_t kBadSample = kBatch + 13;
  const SampleReader read = [](int64_t index, std::span<int32_t> tokens) {
    ReadSample(index, tokens);
    for (int32_t& token : tokens) token %= kRareToken;
    if (index == kBadSample) tokens[5] = kRareToken;
  };
  for (Layout layout : Layouts()) {
    layout.precision = "fp16";
    RunLocalRanks(layout.ranks(), [&](Communicator& world) {
      Rank rank(LayoutConfig(layout), world);
      FillRow(rank.engine, "embedding.token.weight", kRareToken, 65000);
      rank.engine.Publish();
      // The row is an output of the model, too: its logits alone are no overflow yet.
      rank.engine.Step(read);
      const auto before = Copies(rank.engine);
      const TrainEngine::StepOutcome outcome = rank.engine.Step(read);
      EXPECT_EQ(outcome.anomaly, LossAnomaly::kLossNotFinite) << layout.Name();
      EXPECT_EQ(Copies(rank.engine), before) << layout.Name();
      const Culprit culprit = rank.engine.Diagnose(read);
      EXPECT_FALSE(culprit.in_state) << culprit.text;
      const int64_t per_rank = kBatch / layout.dp;
      EXPECT_THAT(culprit.text,
                  AllOf(HasSubstr("the activation after embedding is the first"),
                        HasSubstr(fmt::format("microbatch {} of data-parallel rank {}, samples {} "
                                              "to {}",
                                              13 % per_rank / 2, 13 / per_rank, kBadSample - 1,
                                              kBadSample))))
          << layout.Name();
      EXPECT_EQ(Copies(rank.engine), before) << layout.Name();
    });
  }
}

TEST(DiagnosisTest, AnOverflowInsideALayerNamesTheLayer) {
  for (Layout layout : Layouts()) {
    layout.precision = "fp16";
    RunLocalRanks(layout.ranks(), [&](Communicator& world) {
      Rank rank(LayoutConfig(layout), world);
      FillAll(rank.engine, "layers.5.mlp.fc1.bias", 100);
      FillAll(rank.engine, "layers.5.mlp.fc2.weight", 1000);
      rank.engine.Publish();
      EXPECT_EQ(rank.engine.Step(ReadSample).anomaly, LossAnomaly::kLossNotFinite);
      EXPECT_THAT(rank.engine.Diagnose(ReadSample).text,
                  AllOf(HasSubstr("the activation after layers.5.mlp.fc2.weight is the first"),
                        HasSubstr("microbatch 0 of data-parallel rank 0, samples 0 to 1")))
          << layout.Name();
    });
  }
}

TEST(DiagnosisTest, AGradientThatOverflowsIsNoAnomalyWhileItsScaleCanShrink) {
  for (Layout layout : Layouts()) {
    layout.precision = "fp16";
    for (const double least : {1.0, 1e9}) {
      RunLocalRanks(layout.ranks(), [&](Communicator& world) {
        TrainConfig config = LayoutConfig(layout);
        config.mutable_optimizer()->set_initial_loss_scale(1e9);
        config.mutable_optimizer()->set_min_loss_scale(least);
        Rank rank(config, world);
        rank.engine.Publish();
        const TrainEngine::StepOutcome outcome = rank.engine.Step(ReadSample);
        EXPECT_TRUE(outcome.skipped);
        if (least == 1) {
          EXPECT_EQ(outcome.anomaly, LossAnomaly::kNone);
          return;
        }
        EXPECT_EQ(outcome.anomaly, LossAnomaly::kGradientNotFinite) << layout.Name();
        EXPECT_THAT(rank.engine.Diagnose(ReadSample).text,
                    AllOf(HasSubstr("the gradient of the logits is the first that is not finite"),
                          HasSubstr("samples 0 to 1")))
            << layout.Name();
      });
    }
  }
}

TEST(DiagnosisTest, AGradientThatOverflowsInsideALayerNamesTheWeight) {
  for (Layout layout : Layouts()) {
    layout.precision = "fp16";
    RunLocalRanks(layout.ranks(), [&](Communicator& world) {
      TrainConfig config = LayoutConfig(layout);
      config.mutable_optimizer()->set_initial_loss_scale(1 << 20);
      config.mutable_optimizer()->set_min_loss_scale(1 << 20);
      Rank rank(config, world);
      // The norm's output sums up to about 0: times equal weights it gives little, but its
      // gradient is their sum.
      FillAll(rank.engine, "layers.5.mlp.fc1.weight", 10000);
      rank.engine.Publish();
      EXPECT_EQ(rank.engine.Step(ReadSample).anomaly, LossAnomaly::kGradientNotFinite);
      EXPECT_THAT(
          rank.engine.Diagnose(ReadSample).text,
          AllOf(HasSubstr("the gradient of \"layers.5.mlp_norm"), HasSubstr("samples 0 to 1")))
          << layout.Name();
    });
  }
}

TEST(DiagnosisTest, FiniteTheSecondTimeIsTransientAndTrainingGoesOnUnchanged) {
  for (const Layout& layout : Layouts()) {
    std::vector<Point> points;
    RunLocalRanks(layout.ranks(), [&](Communicator& world) {
      Rank rank(LayoutConfig(layout), world);
      rank.engine.Publish();
      for (int i = 0; i < 3; ++i) {
        const TrainEngine::StepOutcome outcome = rank.engine.Step(ReadSample);
        if (world.rank() == 0) points.push_back({outcome.lm_loss, outcome.grad_norm});
        const Culprit culprit = rank.engine.Diagnose(ReadSample);
        EXPECT_THAT(culprit.text, HasSubstr("every number is finite: a bit flipped"));
      }
    });
    EXPECT_EQ(points, Train(layout, 3)) << layout.Name();
  }
}

TEST(SpikeTest, IsNotAppliedOnAnyRank) {
  const Layout layout{.tp = 2, .dp = 2, .zero = true};
  RunLocalRanks(layout.ranks(), [&](Communicator& world) {
    TrainConfig config = LayoutConfig(layout);
    config.mutable_train()->set_loss_spike_z_score(3);
    Rank rank(config, world);
    rank.engine.Publish();
    const SampleReader same = [](int64_t, std::span<int32_t> tokens) { ReadSample(0, tokens); };
    const SampleReader other = [](int64_t index, std::span<int32_t> tokens) {
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = (index * i * i + 17) % 61;
    };
    for (int i = 0; i < 80; ++i) ASSERT_EQ(rank.engine.Step(same).anomaly, LossAnomaly::kNone);
    const auto before = Copies(rank.engine);
    const Manifest at = rank.engine.Describe();
    const TrainEngine::StepOutcome spike = rank.engine.Step(other);
    EXPECT_EQ(spike.anomaly, LossAnomaly::kSpike) << spike.lm_loss << " z " << spike.loss_z_score;
    EXPECT_TRUE(spike.skipped);
    EXPECT_EQ(Copies(rank.engine), before);
    EXPECT_EQ(rank.engine.Describe().training_state.optimizer_steps,
              at.training_state.optimizer_steps);
    EXPECT_EQ(rank.engine.Describe().training_state.loss_trend_mean,
              at.training_state.loss_trend_mean);
    EXPECT_EQ(rank.engine.Step(same).anomaly, LossAnomaly::kNone);
    EXPECT_NE(Copies(rank.engine), before);
  });
}

// Three steps, a save; two more that are rewound; and on. Another run never sees those two batches.
TEST(RewindTest, EqualsTheRunThatNeverSawTheData) {
  const fs::path folder = fs::temp_directory_path() / fmt::format("cairn-rewind-{}", getpid());
  for (const Layout& layout : Layouts()) {
    fs::remove_all(folder);
    const TrainConfig config = LayoutConfig(layout);
    const SampleReader gap = [](int64_t index, std::span<int32_t> tokens) {
      ReadSample(index < 3 * kBatch ? index : index + 2 * kBatch, tokens);
    };
    const auto steps = [](TrainEngine& engine, int count, const SampleReader& read) {
      std::vector<Point> points;
      for (int i = 0; i < count; ++i) {
        const TrainEngine::StepOutcome outcome = engine.Step(read);
        points.push_back({outcome.lm_loss, outcome.grad_norm});
      }
      return points;
    };
    RunLocalRanks(layout.ranks(), [&](Communicator& world) {
      Rank straight(config, world);
      straight.engine.Publish();
      steps(straight.engine, 3, gap);
      const std::vector<Point> expected = steps(straight.engine, 4, gap);

      Rank rank(config, world);
      rank.engine.Publish();
      steps(rank.engine, 3, ReadSample);
      const std::string early =
          SaveCheckpoint(world, folder.string(), rank.engine.Describe(), rank.engine.State());
      steps(rank.engine, 2, ReadSample);
      const int64_t next_sample = rank.engine.next_sample();
      const auto load = [&](TrainEngine& engine, const std::string& directory) {
        CheckpointReader reader(directory);
        engine.Load(reader);
        engine.Publish();
      };
      load(rank.engine, early);
      rank.engine.SkipTo(next_sample);
      std::vector<Point> actual = steps(rank.engine, 2, ReadSample);
      const std::string late =
          SaveCheckpoint(world, folder.string(), rank.engine.Describe(), rank.engine.State());
      // A resume knows of the skipped samples.
      Rank resumed(config, world);
      load(resumed.engine, late);
      for (const Point& point : steps(resumed.engine, 2, ReadSample)) actual.push_back(point);
      EXPECT_EQ(actual, expected) << layout.Name();
      EXPECT_EQ(Copies(resumed.engine), Copies(straight.engine)) << layout.Name();
    });
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace cairn::testing
