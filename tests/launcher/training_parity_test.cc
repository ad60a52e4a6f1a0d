#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <mutex>

#include "launcher/train_engine.h"
#include "parallel/local_communicator.h"
#include "tests/model/gpt_parity_testing.h"

namespace cairn::testing {
namespace {

struct TrainingCase {
  const char* name;
  int world = 1;
  std::vector<std::string> overrides;
  double tolerance = 1e-5;  ///< of losses and gradient norms, relative

  friend void PrintTo(const TrainingCase& wanted, std::ostream* out) { *out << wanted.name; }
};

// The config of the run that gpt_parity.py made, with the case's overrides.
TrainConfig MakeConfig(const ReferenceFile& reference, const TrainingCase& wanted) {
  std::string text;
  const auto section = [&](const char* name, std::initializer_list<const char*> keys,
                           const std::string& more) {
    text += fmt::format("{} {{ {}", name, more);
    for (const char* key : keys) text += fmt::format(" {}: {}", key, reference.Number(key));
    text += " }\n";
  };
  section("model",
          {"num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "seq_length",
           "max_position_embeddings", "vocab_size"},
          "hidden_dropout: 0 attention_dropout: 0");
  section("optimizer",
          {"lr", "min_lr", "lr_warmup_iters", "adam_beta1", "adam_beta2", "adam_eps",
           "weight_decay", "clip_grad"},
          "lr_decay_style: \"cosine\"");
  section("train", {"train_iters"},
          fmt::format("device: \"cpu\" global_batch_size: {}", reference.Number("samples")));
  const LoadedConfig loaded =
      ParseConfig({"training_parity", text}, ParseOverrides(wanted.overrides));
  ValidateConfig(loaded, wanted.world);
  return loaded.config;
}

// Overwrites the initial weights by those of the reference.
void LoadWeights(TrainEngine& engine, const ReferenceFile& weights, Device& device) {
  for (const StatePiece& piece : engine.State()) {
    if (piece.kind != kWeightKind) continue;
    const std::vector<float> local =
        weights.ReadShard(piece.parameter->shard, piece.parameter->name);
    const auto part = std::span(local).subspan(piece.begin, piece.data.numel());
    device.Copy(piece.data.raw(), part.data(), part.size_bytes(), device.compute_stream());
    device.compute_stream().Synchronize();
  }
  engine.Publish();
}

class TrainingParityTest : public ::testing::TestWithParam<TrainingCase> {
 protected:
  void Train(Communicator& world) {
    const TrainingCase& wanted = GetParam();
    const TrainConfig config = MakeConfig(reference_, wanted);
    const std::unique_ptr<Device> device = NewCpuDevice();
    const Mesh mesh(world, MakeMeshShape(config, wanted.world));
    TrainEngine engine(config, mesh, *device);
    LoadWeights(engine, weights_, *device);

    const int64_t length = config.model().seq_length() + 1;
    const auto samples = reference_.Read<int32_t>("samples");
    const SampleReader read = [&](int64_t index, std::span<int32_t> tokens) {
      std::copy_n(samples.begin() + index * length, length, tokens.begin());
    };
    const auto losses = reference_.Read<double>("loss");
    const auto norms = reference_.Read<double>("grad_norm");
    const auto rates = reference_.Read<double>("learning_rate");
    double worst_loss = 0;
    double worst_norm = 0;
    for (size_t step = 0; step < losses.size(); ++step) {
      const TrainEngine::StepOutcome outcome = engine.Step(read);
      EXPECT_FALSE(outcome.skipped);
      EXPECT_NEAR(outcome.learning_rate, rates[step], 1e-15);
      const double loss = std::abs(outcome.lm_loss - losses[step]) / losses[step];
      const double norm = std::abs(outcome.grad_norm - norms[step]) / norms[step];
      EXPECT_LE(loss, wanted.tolerance) << "loss of step " << step + 1;
      EXPECT_LE(norm, wanted.tolerance) << "gradient norm of step " << step + 1;
      worst_loss = std::max(worst_loss, loss);
      worst_norm = std::max(worst_norm, norm);
    }
    if (world.rank() == 0 && std::getenv("CAIRN_PARITY_TABLE") != nullptr) {
      fmt::print("| {} | {:.1e} | {:.1e} |\n", wanted.name, worst_loss, worst_norm);
    }
  }

  ReferenceFile weights_{"gpt_weights"};
  ReferenceFile reference_{"gpt_training"};
};

TEST_P(TrainingParityTest, LossesAndNormsOfTenAdamWStepsMatchPyTorch) {
  if (GetParam().world == 1) {
    const std::unique_ptr<Communicator> alone = NewSingleCommunicator();
    Train(*alone);
  } else {
    RunLocalRanks(GetParam().world, [&](Communicator& world) { Train(world); });
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, TrainingParityTest,
    ::testing::Values(
        TrainingCase{"OneRank", 1, {"micro_batch_size=4"}},
        TrainingCase{"OneRankDeterministic", 1, {"deterministic=true"}},
        TrainingCase{"Dp2Sharded",
                     2,
                     {"data_parallel_sharding_strategy=optim", "grad_reduce_bucket_mb=0.02"}},
        TrainingCase{"Tp2SequencePp3",
                     6,
                     {"tensor_model_parallel_size=2", "sequence_parallel=true",
                      "pipeline_model_parallel_size=3", "micro_batch_size=2"}},
        TrainingCase{"Tp2Dp2ShardedPp2Recompute",
                     8,
                     {"tensor_model_parallel_size=2", "pipeline_model_parallel_size=2",
                      "data_parallel_sharding_strategy=optim", "recompute_granularity=full"}},
        // Main weights and moments are fp32, what enters products is not.
        TrainingCase{"BFloat16Dp2Sharded",
                     2,
                     {"precision=bf16", "data_parallel_sharding_strategy=optim"},
                     2e-2},
        TrainingCase{"Float16", 1, {"precision=fp16", "initial_loss_scale=1024"}, 5e-3}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace cairn::testing
