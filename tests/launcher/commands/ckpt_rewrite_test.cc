// cairn ckpt reshard, repair and bench-io, as a user runs them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kStep = "/checkpoints/step-00000004";

class RewriteCommandTest : public ::testing::Test {
 protected:
  RewriteCommandTest() {
    workspace_.RunWell(
        "cairn train tiny.textproto precision=fp16 initial_loss_scale=1e9 exit_interval=4 "
        "train_iters=6 2> /dev/null || test $? = 4");
  }

  Json RunJson(const std::string& script) const { return Json::parse(workspace_.RunWell(script)); }

  // The names and sizes of all files in a folder, and what is in them.
  std::map<std::string, std::string> Files(const std::string& folder) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(workspace_ / folder)) {
      files[entry.path().filename()] = ReadText(entry.path());
    }
    return files;
  }

  const Workspace workspace_;
};

// A step folder that a run in this layout wrote is to the byte what reshard makes of another.
TEST_F(RewriteCommandTest, MakesWhatARunOfThatLayoutSaves) {
  const auto before = Files(std::string("run") + kStep);
  const Json report = RunJson(
      "cairn ckpt reshard run new/checkpoints/step-00000004 --tensor-model-parallel-size 2 "
      "--pipeline_model_parallel_size 2 --data-parallel-size=2 "
      "--data_parallel_sharding_strategy optim --json");
  EXPECT_EQ(report["tensor_model_parallel_size"], 2);
  EXPECT_EQ(report["data_parallel_size"], 2);
  EXPECT_EQ(report["files"], 8);
  EXPECT_GT(report["bytes_read"], report["bytes_written"]);
  EXPECT_LT(report["peak_memory_bytes"], report["memory_limit_bytes"]);
  EXPECT_EQ(RunJson("cairn ckpt verify new --json")["ok"], true);

  // A run of eight ranks loads and saves it in its own way.
  EXPECT_EQ(workspace_
                .Run("mpirun -n 8 cairn train run/config.textproto run_dir=eight load=run "
                     "tensor_model_parallel_size=2 pipeline_model_parallel_size=2 "
                     "data_parallel_sharding_strategy=optim exit_interval=1 train_iters=5")
                .status,
            0);
  const Json saved = RunJson("cairn ckpt info eight --json");
  const Json made = RunJson("cairn ckpt info new --json");
  EXPECT_EQ(made["layout"], saved["layout"]);
  for (const char* part : {"name", "bytes"}) {
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(made["files"][i][part], saved["files"][i][part]);
  }
  EXPECT_THAT(made["config"].get<std::string>(), HasSubstr("tensor_model_parallel_size: 2"));
  const Json old = RunJson("cairn ckpt info run --json");
  for (const char* key : {"iteration", "consumed_samples", "tokens", "training_state", "kinds"}) {
    EXPECT_EQ(made[key], old[key]) << key;
  }

  workspace_.RunWell(
      "cairn ckpt reshard new back --tensor-model-parallel-size 1 "
      "--pipeline-model-parallel-size 1 --data-parallel-sharding-strategy no_shard");
  EXPECT_EQ(Files("back"), before);
  EXPECT_EQ(Files(std::string("run") + kStep), before);
}

TEST_F(RewriteCommandTest, TrainingGoesOnBitwise) {
  workspace_.RunWell(
      "cairn ckpt reshard run new/checkpoints/step-00000004 --tensor-model-parallel-size 2 "
      "--pipeline-model-parallel-size 2 2> /dev/null");
  const char* go_on =
      "mpirun -n 4 cairn train run/config.textproto run_dir={} load={} "
      "exit_interval=0 tensor_model_parallel_size=2 "
      "pipeline_model_parallel_size=2 2> /dev/null";
  workspace_.RunWell(fmt::format(fmt::runtime(go_on), "a", "run"));
  workspace_.RunWell(fmt::format(fmt::runtime(go_on), "b", "new"));
  const std::vector<Json> a = ReadMetrics(workspace_ / "a");
  const std::vector<Json> b = ReadMetrics(workspace_ / "b");
  ASSERT_EQ(a.size(), 2U);
  ASSERT_EQ(b.size(), 2U);
  for (size_t i = 0; i < a.size(); ++i) {
    for (const char* key : {"iteration", "lm_loss", "grad_norm", "loss_scale"}) {
      EXPECT_EQ(a[i][key], b[i][key]) << key;
    }
  }
}

// 240 MB of state through a process whose data the system itself keeps below 64 MiB.
TEST(ReshardMemoryTest, StaysBelowItsLimitWhateverTheSize) {
  const Workspace workspace;
  workspace.RunWell(
      "cairn train tiny.textproto hidden_size=512 num_layers=6 ffn_hidden_size=2048 train_iters=1 "
      "2> /dev/null");
  const Json report = Json::parse(workspace.RunWell(
      "ulimit -d 65536; cairn ckpt reshard run columns --memory-limit 64MiB --json "
      "--tensor-model-parallel-size 4"));
  EXPECT_GT(report["bytes_written"], uint64_t{3} * report["memory_limit_bytes"].get<uint64_t>());
  EXPECT_LE(report["peak_memory_bytes"], report["memory_limit_bytes"]);
  // Four column parts of the half of the matrices that is cut so: each block up to four times.
  EXPECT_LE(report["bytes_read"], 4 * report["bytes_written"].get<uint64_t>());
  workspace.RunWell(
      "ulimit -d 65536; cairn ckpt reshard columns whole --memory-limit 64MiB "
      "--tensor-model-parallel-size 1");
  const std::string shard = "/shard-00000.safetensors";
  EXPECT_TRUE(ReadText(workspace / "whole" + shard) ==
              ReadText(workspace / "run/checkpoints/step-00000001" + shard));
}

TEST_F(RewriteCommandTest, SaysWhatDoesNotFitAndLeavesNothing) {
  struct Refusal {
    const char* arguments;
    int status;
    const char* says;
  };
  for (const Refusal& refusal : std::vector<Refusal>{
           {"run new --tensor-model-parallel-size 3", 2, "sizes that fit: 1, 2, 4"},
           {"run new --tensor_model_parallel_size x", 2, "takes an integer, not `x`"},
           {"run new --pipeline-model-parallel-size 3", 2, "sizes that fit: 1 to 2"},
           {"run new --data-parallel-size 3", 2, "sizes that fit: 3 or 6"},
           {"run new --data-parallel-sharding-strategy optm", 2, "did you mean `optim`?"},
           {"run new --tensor-model-parallel 2", 2, "--tensor-model-parallel"},
           {"run new --memory-limit 1MiB", 2, "MiB is the least that works"},
           {"run new --memory-limit many", 2, "--memory-limit"},
           {"run run/checkpoints/step-00000004", 2, "exists already"},
           {"run step-00000005", 2, "call it step-00000004"},
           {"nope new", 3, "nope: is no folder"}}) {
    const Outcome outcome = workspace_.Run(fmt::format("cairn ckpt reshard {}", refusal.arguments));
    EXPECT_EQ(outcome.status, refusal.status) << refusal.arguments;
    EXPECT_THAT(outcome.err, HasSubstr(refusal.says));
    EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_FALSE(fs::exists(workspace_ / "new"));
    ExpectNoCrash(outcome);
  }
  // The least that it names does work.
  const Outcome refused = workspace_.Run("cairn ckpt reshard run new --memory-limit 1MiB");
  const std::string word = "is too little, ";
  const std::string least = refused.err.substr(refused.err.find(word) + word.size());
  workspace_.RunWell("cairn ckpt reshard run new --memory-limit " +
                     std::to_string(std::stoi(least) + 1) + "MiB");
}

TEST_F(RewriteCommandTest, AFullDiskOrDamageLeavesNoCheckpoint) {
  const Outcome full = workspace_.Run("ulimit -f 100; cairn ckpt reshard run new");
  EXPECT_EQ(full.status, 3);
  EXPECT_THAT(full.err, HasSubstr("File too large"));
  EXPECT_FALSE(fs::exists(workspace_ / "new"));
  const Outcome damaged = workspace_.Run(
      "printf X | dd of=run/checkpoints/step-00000004/shard-00000.safetensors seek=20000 bs=1 "
      "conv=notrunc 2> /dev/null; cairn ckpt reshard run new");
  EXPECT_EQ(damaged.status, 3);
  EXPECT_THAT(damaged.err, HasSubstr("CRC32C differs"));
  EXPECT_FALSE(fs::exists(workspace_ / "new"));
}

TEST_F(RewriteCommandTest, RepairTakesFromTheReplica) {
  const std::string step = std::string("run") + kStep;
  const auto whole = Files(step);
  workspace_.RunWell("cp -r " + step + " replica; printf X | dd of=" + step +
                     "/shard-00000.safetensors seek=20000 bs=1 conv=notrunc 2> /dev/null; rm " +
                     step + "/COMMIT replica/MANIFEST.pb");
  const Json report = RunJson("cairn ckpt repair " + step + " --from replica new --json");
  EXPECT_EQ(report["ok"], true);
  EXPECT_EQ(report["from_replica"].size(), 2U);
  EXPECT_EQ(report["from_replica"][1]["file"], "shard-00000.safetensors");
  EXPECT_NE(report["from_replica"][1]["tensor"], "");
  EXPECT_EQ(Files("new"), whole);

  workspace_.RunWell(
      "printf XY | dd of=replica/shard-00000.safetensors seek=20000 bs=1 conv=notrunc "
      "2> /dev/null");
  const Outcome lost = workspace_.Run("cairn ckpt repair " + step + " --from replica other");
  EXPECT_EQ(lost.status, 1) << lost.err;
  EXPECT_THAT(lost.out, HasSubstr("lost in both copies, nothing written: 1 place"));
  EXPECT_THAT(lost.out, HasSubstr("shard-00000.safetensors: tensor \""));
  EXPECT_THAT(lost.out, HasSubstr("bytes ["));
  EXPECT_FALSE(fs::exists(workspace_ / "other"));
}

TEST(BenchIoTest, MeasuresAndCleansUp) {
  const Workspace workspace;
  workspace.RunWell("mkdir disk");
  const Json report =
      Json::parse(workspace.RunWell("cairn ckpt bench-io disk --size 100KB --rounds 2 --json"));
  EXPECT_EQ(report["bytes"], 100000);
  EXPECT_EQ(report["rounds"], 2);
  for (const char* key :
       {"plain_write_bytes_per_second", "save_bytes_per_second", "save_to_plain_write",
        "plain_read_bytes_per_second", "load_bytes_per_second", "load_to_plain_read",
        "verify_bytes_per_second", "verify_to_plain_read"}) {
    EXPECT_GT(report[key], 0) << key;
  }
  EXPECT_THAT(workspace.RunWell("cairn ckpt bench-io disk --size 5KiB --rounds 1"),
              HasSubstr("save: hash, write, fsync"));
  EXPECT_TRUE(fs::is_empty(workspace / "disk"));
  EXPECT_EQ(workspace.Run("cairn ckpt bench-io nowhere").status, 2);
  EXPECT_EQ(workspace.Run("cairn ckpt bench-io disk --size 0").status, 2);
}

}  // namespace
}  // namespace cairn::testing
