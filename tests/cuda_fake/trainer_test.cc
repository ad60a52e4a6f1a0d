#include "launcher/trainer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "../runtime/data/data_testing.h"
#include "fake_training_testing.h"
#include "launcher/run_config.h"
#include "runtime/checkpoint/store.h"

namespace cairn::testing {
namespace {

using ::testing::IsEmpty;

// `cairn train` but for the command line: data, evaluation, saves behind the training, resumption.
void TrainUntil(int iterations, int ranks, const TestFolder& folder) {
  const std::string text = fmt::format(
      R"(run_dir: "{}" data {{ data_path: "{}" split: "90,10,0" }}
         model {{ num_layers: 4 hidden_size: 16 num_attention_heads: 4 seq_length: 8 vocab_size: 61 }}
         parallel {{ pipeline_model_parallel_size: {} data_parallel_sharding_strategy: "optim" }}
         train {{ micro_batch_size: 1 global_batch_size: 8 train_iters: {} device: "cuda"
                  precision: "bf16" eval_interval: 2 eval_iters: 1
                  check_weight_hash_across_dp_replicas_interval: 2 }}
         optimizer {{ lr: 0.001 }} checkpoint {{ save_interval: 2 load: "auto" }})",
      folder.Path("run"), folder.Path("data"), ranks > 1 ? 2 : 1, iterations);
  StopSignal stop;
  const FakeOutcome outcome = RunOnFakes(ranks, [&](Communicator& world, Device& device) {
    LoadedConfig loaded = ParseConfig({"fakes", text}, {});
    ResolveRunConfig(loaded, ranks);
    const Mesh mesh(world, MakeMeshShape(loaded.config, ranks));
    Trainer trainer(loaded, mesh, device, stop, "cairn");
    EXPECT_EQ(trainer.Run(), kExitOk);
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
  CheckpointReader reader(ResolveCheckpoint(folder.Path("run")));
  EXPECT_EQ(reader.manifest().iteration, iterations);
}

TEST(FakeTrainerTest, TrainsSavesAndResumes) {
  const TestFolder folder;
  WriteDataset(folder.Path("data"),
               std::vector<std::vector<int32_t>>(20, std::vector<int32_t>(50, 7)), 61);
  for (const int ranks : {4, 1}) TrainUntil(ranks == 4 ? 4 : 6, ranks, folder);
}

}  // namespace
}  // namespace cairn::testing
