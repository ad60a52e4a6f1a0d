#include "layouts_testing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "parallel/local_communicator.h"

namespace cairn::testing {

std::string Layout::Name() const {
  return fmt::format("tp{} pp{} dp{}{}{} mbs{} {} {}{}{}", tp, pp, dp,
                     sequence_parallel ? " sp" : "", zero ? " zero" : "", micro_batch_size,
                     schedule, precision, deterministic ? " deterministic" : "",
                     recompute == "none" ? "" : " recompute " + recompute);
}

TrainConfig LayoutConfig(const Layout& layout, int64_t seed, const ModelSize& size) {
  const std::string text = fmt::format(
      R"(model {{ num_layers: {} hidden_size: {} num_attention_heads: {} seq_length: {} vocab_size: {}
                 make_vocab_size_divisible_by: 4 hidden_dropout: 0.1 attention_dropout: 0.1 }}
         parallel {{ tensor_model_parallel_size: {} pipeline_model_parallel_size: {}
                    sequence_parallel: {} pipeline_schedule: "{}" grad_reduce_bucket_mb: 0.05
                    data_parallel_sharding_strategy: "{}" }}
         train {{ micro_batch_size: {} global_batch_size: {} train_iters: 100 seed: {}
                 precision: "{}" deterministic: {} recompute_granularity: "{}" device: "cpu" }}
         optimizer {{ lr: 0.002 lr_warmup_iters: 5 clip_grad: 0.5 initial_loss_scale: {}
                     loss_scale_window: {} }})",
      size.layers, size.hidden, size.heads, size.seq_length, size.vocabulary, layout.tp, layout.pp,
      layout.sequence_parallel, layout.schedule, layout.zero ? "optim" : "no_shard",
      layout.micro_batch_size, size.global_batch, seed, layout.precision, layout.deterministic,
      layout.recompute, size.initial_loss_scale, size.loss_scale_window);
  const LoadedConfig loaded = ParseConfig({"layout", text}, {});
  ValidateConfig(loaded, layout.ranks());
  return loaded.config;
}

void ReadTestSample(int64_t index, std::span<int32_t> tokens, int64_t vocabulary) {
  const int64_t used = std::min<int64_t>(61, vocabulary);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto position = static_cast<int64_t>(i);
    tokens[i] =
        static_cast<int32_t>((index * 7 + position * (index % 5 + 1) + position / 3) % used);
  }
}

std::vector<Point> TrainOnRank(const TrainConfig& config, Communicator& world, int iterations,
                               const Hooks& hooks) {
  const std::unique_ptr<Device> device = NewCpuDevice();
  const Mesh mesh(world, MakeMeshShape(config, world.size()));
  TrainEngine engine(config, mesh, *device);
  hooks.start(engine, world);
  std::vector<Point> points;
  for (int i = 0; i < iterations; ++i) {
    const TrainEngine::StepOutcome outcome =
        engine.Step([&](int64_t index, std::span<int32_t> tokens) {
          ReadTestSample(index, tokens, config.model().vocab_size());
        });
    points.push_back({outcome.lm_loss, outcome.grad_norm});
  }
  hooks.end(engine, world);
  return points;
}

std::vector<Point> Train(const Layout& layout, int iterations, const Hooks& hooks,
                         const ModelSize& size) {
  const TrainConfig config = LayoutConfig(layout, 1234, size);
  std::vector<Point> points;
  RunLocalRanks(layout.ranks(), [&](Communicator& world) {
    std::vector<Point> own = TrainOnRank(config, world, iterations, hooks);
    if (world.rank() == 0) points = std::move(own);
  });
  return points;
}

double LargestDeviation(const std::vector<Point>& actual, const std::vector<Point>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    for (const double deviation : {std::abs(actual[i].lm_loss / expected[i].lm_loss - 1),
                                   std::abs(actual[i].grad_norm / expected[i].grad_norm - 1)}) {
      // A NaN is the largest of all.
      if (!(deviation <= largest)) largest = deviation;
    }
  }
  return largest;
}

std::vector<Layout> LayoutsOf(int ranks) {
  std::vector<Layout> layouts;
  for (int tp = 1; tp <= ranks; ++tp) {
    for (int pp = 1; tp * pp <= ranks; ++pp) {
      if (ranks % (tp * pp) != 0) continue;
      Layout layout;
      layout.tp = tp;
      layout.pp = pp;
      layout.dp = ranks / (tp * pp);
      layouts.push_back(layout);
    }
  }
  return layouts;
}

}  // namespace cairn::testing
