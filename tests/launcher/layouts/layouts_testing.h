#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launcher/train_engine.h"

namespace cairn::testing {

/// How a run is cut; everything else about it is fixed.
struct Layout {
  int tp = 1;
  int pp = 1;
  int dp = 1;
  bool sequence_parallel = false;
  bool zero = false;
  int micro_batch_size = 2;
  std::string schedule = "1f1b";
  std::string precision = "fp32";
  bool deterministic = false;
  std::string recompute = "none";

  int ranks() const { return tp * pp * dp; }
  std::string Name() const;
};

/// What is cut.
struct ModelSize {
  int layers = 8;
  int hidden = 48;
  int heads = 24;
  int seq_length = 24;
  int vocabulary = 61;
  int global_batch = 24;
  double initial_loss_scale = 4096;
  int loss_scale_window = 1000;
};

/// What is compared of an iteration.
struct Point {
  double lm_loss;
  double grad_norm;
  bool operator==(const Point&) const = default;
};

/// The config of a test model under a layout: dropout 0.1, by default sizes that 1 to 4, 6 and 8
/// ranks divide. `seed` other than the default gives other weights and dropout masks.
TrainConfig LayoutConfig(const Layout& layout, int64_t seed = 1234, const ModelSize& size = {});

/// Made-up text that a model can learn from, of up to 61 tokens: sample `index` as a function of
/// the index alone.
void ReadTestSample(int64_t index, std::span<int32_t> tokens, int64_t vocabulary);

/// Called on every rank before the first step and after the last.
struct Hooks {
  std::function<void(TrainEngine&, Communicator& world)> start = [](TrainEngine& engine,
                                                                    Communicator&) {
    engine.Initialize();
    engine.Publish();
  };
  std::function<void(TrainEngine&, Communicator& world)> end = [](TrainEngine&, Communicator&) {};
};

/// This rank's part of a run of `iterations` steps. Collective over `world`.
std::vector<Point> TrainOnRank(const TrainConfig& config, Communicator& world, int iterations,
                               const Hooks& hooks = {});

/// A whole run with ranks as threads; rank 0's points.
std::vector<Point> Train(const Layout& layout, int iterations, const Hooks& hooks = {},
                         const ModelSize& size = {});

/// Largest relative deviation of losses and norms from `expected`.
double LargestDeviation(const std::vector<Point>& actual, const std::vector<Point>& expected);

/// All (tp, pp, dp) with tp * pp * dp == ranks.
std::vector<Layout> LayoutsOf(int ranks);

}  // namespace cairn::testing
