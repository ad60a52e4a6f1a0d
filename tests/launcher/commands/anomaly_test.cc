// A loss that is not finite, or jumps: what the program does about it, by policy.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/store.h"
#include "tests/launcher/commands/program_testing.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kBadTensor = "layers.1.mlp.fc1.weight";

// Writes a checkpoint of `run` anew, in good order, but for one weight that is not a number.
void Poison(const std::string& run, int64_t iteration) {
  const std::string directory = StepDirectory(run, iteration);
  const std::string old = directory + "-sound";
  fs::rename(directory, old);
  CheckpointReader reader(old);
  Manifest manifest = reader.manifest();
  std::map<std::string, std::vector<float>> values;
  ShardWriter writer(BeginCheckpoint(run, iteration), ShardFileName(0));
  for (const TensorEntry& tensor : manifest.tensors) {
    std::vector<float>& elements = values[tensor.name + tensor.kind];
    elements.resize(Elements(tensor.shape));
    const std::vector<int64_t> zeros(tensor.shape.size(), 0);
    reader.Read(tensor.name, tensor.kind, zeros, tensor.shape,
                std::as_writable_bytes(std::span(elements)));
    if (tensor.name == kBadTensor && tensor.kind == kWeightKind) elements[7] = NAN;
    writer.Add({tensor.name, tensor.kind, tensor.dtype, tensor.shape, zeros, tensor.shape,
                std::as_bytes(std::span<const float>(elements))});
  }
  manifest.tensors.clear();
  manifest.files.clear();
  MergeShards({writer.Write()}, manifest);
  CommitCheckpoint(directory, manifest);
  fs::remove_all(old);
}

class PolicyTest : public ::testing::TestWithParam<const char*> {};

TEST_P(PolicyTest, ACheckpointWithABadWeightIsNotTrainedOn) {
  const std::string launch = GetParam();
  const Workspace workspace;
  workspace.RunWell("cairn train tiny.textproto save_interval=2");
  Poison(workspace / "run", 4);
  workspace.RunWell("cairn ckpt verify run/checkpoints/step-00000004");
  const auto train = [&](const std::string& policy) {
    const Outcome outcome = workspace.Run(fmt::format(
        "{} train tiny.textproto load=auto train_iters=8 save_interval=2 rewind_iters=1 "
        "loss_anomaly_policy={}",
        launch, policy));
    ExpectNoCrash(outcome);
    return outcome;
  };
  for (const char* policy : {"skip", "stop"}) {
    const Outcome outcome = train(policy);
    EXPECT_EQ(outcome.status, 3) << outcome.err;
    EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
    EXPECT_THAT(
        outcome.err,
        AllOf(HasSubstr("cairn: numeric error: iteration 5: the loss is not finite; "),
              HasSubstr(fmt::format("\"{}\" (weight) is not finite on rank 0", kBadTensor)),
              HasSubstr(policy == std::string("stop") ? "loss_anomaly_policy is stop"
                                                      : "skipping steps does not mend that")));
    EXPECT_FALSE(fs::exists(workspace / "run/checkpoints/step-00000006"));
  }
  const Outcome rewound = train("rewind");
  EXPECT_EQ(rewound.status, 0) << rewound.err;
  EXPECT_THAT(rewound.err,
              AllOf(HasSubstr("loss anomaly at iteration 5: the loss is not finite; "),
                    HasSubstr("rewound to run/checkpoints/step-00000002 (iteration 2); samples 8 "
                              "to 19 are passed over")));
  int64_t next = 1;
  for (const Json& line : ReadMetrics(workspace / "run")) {
    EXPECT_EQ(line["iteration"], next++);
    EXPECT_TRUE(line["lm_loss"].is_number()) << line;
  }
  EXPECT_EQ(next, 9);
  const Json info = Json::parse(workspace.RunWell("cairn ckpt info run --json"));
  EXPECT_EQ(info["iteration"], 8);
  EXPECT_EQ(info["training_state"]["skipped_samples"], 12);
  // The one with the bad weight was replaced by a good one of its iteration.
  EXPECT_THAT(workspace.RunWell("cairn ckpt ls run"), Not(HasSubstr("damaged")));
}

INSTANTIATE_TEST_SUITE_P(Launch, PolicyTest, ::testing::Values("cairn", "mpirun -n 2 cairn"),
                         [](const auto& info) {
                           return info.param == std::string("cairn") ? "OneRank" : "TwoRanks";
                         });

TEST(RewindTest, WithoutACheckpointToGoToTheRunEndsAndSaysSo) {
  const Workspace workspace;
  workspace.RunWell("cairn train tiny.textproto save_interval=4");
  Poison(workspace / "run", 4);
  const Outcome outcome = workspace.Run(
      "cairn train tiny.textproto load=auto train_iters=8 save_interval=2 rewind_iters=1 "
      "loss_anomaly_policy=rewind");
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("has no good checkpoint of iteration 3 or before"));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
}

// The trend's deviation is that of a loss that has just fallen; what is noise stands out of it by
// this.
constexpr const char* kSpikes =
    "data_path=noisy train_iters=60 save_interval=5 loss_spike_z_score=0.4 rewind_iters=3 "
    "tensorboard=false lr_decay_style=constant max_loss_anomalies=1000 ";

// The workspace's text, with noise between its documents now and then.
void BuildNoisyData(const Workspace& workspace) {
  std::mt19937 random(5);
  std::ifstream text(workspace / "text.txt");
  std::ofstream noisy(workspace / "noisy.txt");
  int documents = 0;
  for (std::string document; std::getline(text, document, '\f'); ++documents) {
    if (documents > 0) noisy << '\f';
    noisy << document;
    if (documents % 8 != 5) continue;
    noisy << '\f';
    for (int i = 0; i < 100; ++i) noisy << static_cast<char>('!' + random() % 94);
  }
  noisy.close();
  workspace.RunWell("cairn data build noisy.txt --tokenizer byte --output noisy");
}

std::vector<Json> Losses(const Workspace& workspace) {
  std::vector<Json> losses;
  for (Json& line : ReadMetrics(workspace / "run")) {
    losses.push_back({line["iteration"], line["lm_loss"], line["grad_norm"], line["skipped"]});
  }
  return losses;
}

TEST(SpikeTest, RewindsAreBoundedAndAResumeRepeatsThem) {
  const Workspace whole;
  BuildNoisyData(whole);
  const std::string train = fmt::format("cairn train tiny.textproto {}", kSpikes);
  const Outcome outcome = whole.Run(train + "loss_anomaly_policy=rewind lr=0.01");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  ASSERT_THAT(outcome.err, AllOf(HasSubstr("standard deviations above the recent ones; rewinding"),
                                 HasSubstr("rewound to run/checkpoints/step-000000")));
  const std::vector<Json> losses = Losses(whole);
  ASSERT_EQ(losses.size(), 60);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_EQ(losses[i][0], i + 1);

  const Workspace parts;
  BuildNoisyData(parts);
  int runs = 0;  // which end where a checkpoint is saved anyway, so that rewinds find the same
  for (int status = 4; status == 4 && runs < 20; ++runs) {
    const Outcome part =
        parts.Run(train + "loss_anomaly_policy=rewind lr=0.01 load=auto exit_interval=15");
    status = part.status;
    ASSERT_TRUE(status == 0 || status == 4) << part.err;
  }
  EXPECT_GT(runs, 3);
  EXPECT_EQ(Losses(parts), losses);

  const Workspace bounded;
  BuildNoisyData(bounded);
  const Outcome ended = bounded.Run(train +
                                    "loss_anomaly_policy=rewind lr=0.01 "
                                    "max_loss_anomalies=0");
  EXPECT_EQ(ended.status, 3) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("max_loss_anomalies 0 is exceeded"));
  EXPECT_EQ(CountErrors(ended.err), 1) << ended.err;
}

}  // namespace
}  // namespace cairn::testing
