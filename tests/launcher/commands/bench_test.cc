// `cairn bench`: what it prints, and what it refuses. Nothing here depends on how fast it was.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kStep = "cairn bench step tiny.textproto --warmup 1 --steps 2 ";

struct OpCase {
  const char* command;
  std::vector<std::string> ops;
  std::vector<std::string> shapes;
  const char* rate;
};

class BenchOpTest : public ::testing::TestWithParam<OpCase> {};

TEST_P(BenchOpTest, PrintsARowForEachOp) {
  const Workspace workspace;
  const std::string command = fmt::format("cairn bench {} --repeat 2", GetParam().command);
  const Json rows = Json::parse(workspace.RunWell(command + " --json"));
  const std::string text = workspace.RunWell(command);
  ASSERT_EQ(rows.size(), GetParam().ops.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["op"], GetParam().ops[i]);
    EXPECT_EQ(rows[i]["shape"], GetParam().shapes[i]);
    EXPECT_GT(rows[i]["milliseconds"], 0);
    EXPECT_GT(rows[i][GetParam().rate], 0);
    EXPECT_THAT(text, HasSubstr(GetParam().ops[i]));
    EXPECT_THAT(text, HasSubstr(GetParam().shapes[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ops, BenchOpTest,
    ::testing::Values(
        OpCase{"matmul --m 3 --n 5 --k 7",
               {"forward", "input gradient", "weight gradient"},
               {"3x5x7", "3x7x5", "5x7x3"},
               "flops_per_second"},
        OpCase{"attention --samples 2 --seq-length 9 --heads 3 --head-dim 4 --precision bf16",
               {"forward", "backward"},
               {"2x9, 3 heads of 4", "2x9, 3 heads of 4"},
               "flops_per_second"},
        OpCase{"norm --rows 5 --columns 33 --precision bf16",
               {"forward", "input gradient", "weight gradient"},
               {"5x33", "5x33", "5x33"},
               "bytes_per_second"},
        OpCase{"adamw --elements 1001", {"adamw"}, {"1001"}, "bytes_per_second"}),
    [](const auto& info) {
      const std::string command = info.param.command;
      return command.substr(0, command.find(' '));
    });

TEST(BenchCollectiveTest, MeasuresEveryVerbAndSize) {
  const Workspace workspace;
  for (const auto& [launch, communicator, ranks] :
       {std::tuple{"cairn bench collective --ranks 3", "threads", 3},
        std::tuple{"mpirun -n 2 cairn bench collective", "mpi", 2}}) {
    const Json rows = Json::parse(workspace.RunWell(
        fmt::format("{} --min-bytes 1024 --max-bytes 16384 --repeat 2 --json", launch)));
    std::set<std::pair<std::string, int64_t>> measured;
    for (const Json& row : rows) {
      EXPECT_EQ(row["communicator"], communicator);
      EXPECT_EQ(row["ranks"], ranks);
      EXPECT_GT(row["microseconds"], 0);
      measured.emplace(row["verb"], row["bytes"]);
    }
    EXPECT_EQ(measured.size(), 4 * 3);
    EXPECT_TRUE(measured.contains({"AllReduce", 16384})) << launch;
  }
}

TEST(BenchStepTest, SaysWhatAStepTook) {
  const Workspace workspace;
  const Json step = Json::parse(workspace.RunWell(std::string(kStep) + "--json"));
  for (const char* key : {"tokens_per_second", "iteration_time_ms", "model_flops_per_second",
                          "peak_memory_bytes", "peak_resident_bytes", "matmul_flops_per_second"}) {
    EXPECT_GT(step[key], 0) << key;
  }
  // 4 samples of 16 tokens; 2 layers of width 32, and a vocabulary of 257, padded.
  EXPECT_NEAR(step["tokens_per_second"].get<double>() * step["iteration_time_ms"].get<double>(),
              4 * 16 * 1e3, 1);
  const double layer = 8 * 32 * 32 + 4 * 32 * 128 + 4 * 32 * 16 - 2 * 32 * 15;
  const double head = 2 * 32 * 384;
  EXPECT_NEAR(
      step["model_flops_per_second"].get<double>() / step["tokens_per_second"].get<double>(),
      3 * (2 * layer + head), 1);
  EXPECT_LE(step["forward_backward_ms"], step["iteration_time_ms_max"]);
  std::set<std::string> ops;
  double shares = 0;
  for (const Json& op : step["ops"]) {
    ops.insert(op["op"]);
    shares += op["share"].get<double>();
    // 4 micro batches; in each layer 4 linear maps of three products each, and the head's three.
    if (op["op"] == "Matmul") {
      EXPECT_EQ(op["calls"], 4 * (2 * 4 + 1) * 3);
    }
  }
  for (const char* op : {"Matmul", "Attention", "layer_norm", "gelu", "adamw", "cross_entropy"}) {
    EXPECT_TRUE(ops.contains(op)) << op;
  }
  EXPECT_GT(shares, 0);
  EXPECT_EQ(step["wait_ms"], 0);
  EXPECT_THAT(workspace.RunWell(kStep), HasSubstr("tokens/s"));
}

TEST(BenchStepTest, CountsWaitingOfRanks) {
  const Workspace workspace;
  const Json step = Json::parse(
      workspace.RunWell("mpirun -n 2 cairn bench step tiny.textproto --warmup 0 --steps 2 --json "
                        "--tensor-model-parallel-size 2"));
  EXPECT_EQ(step["ranks"], 2);
  EXPECT_GT(step["wait_ms"], 0);
}

TEST(BenchStepTest, NeedsNoDataAndLeavesNothing) {
  const Workspace workspace;
  workspace.RunWell("rm corpus.* && cairn bench step tiny.textproto --steps 1 vocab_size=99");
  EXPECT_EQ(workspace.RunWell("ls"), "text.txt\ntiny.textproto\n");
}

// Puts `edit`, a line of Python on the object `b`, to a measured baseline.
std::string Edited(const std::string& edit) {
  return std::string(kStep) +
         "--json > fresh; python3 -c 'import json; b = json.load(open(\"fresh\")); " + edit +
         "; json.dump(b, open(\"baseline\", \"w\"))'; " + kStep + "--baseline baseline ";
}

TEST(BenchStepTest, BaselineHolds) {
  const Workspace workspace;
  const Outcome outcome = workspace.Run(Edited("b[\"tokens_per_second\"] /= 1000") + "--json");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("holds: "));
  EXPECT_TRUE(Json::parse(outcome.out).contains("tokens_per_second"));
}

TEST(BenchStepTest, RegressionOfSpeedOrMemoryIsStatusOne) {
  const Workspace workspace;
  for (const char* edit : {"b[\"tokens_per_second\"] *= 1000", "b[\"peak_memory_bytes\"] *= 0.5"}) {
    const Outcome outcome = workspace.Run(Edited(edit) + "--tolerance 20");
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("regression: "));
    EXPECT_EQ(CountErrors(outcome.err), 0) << outcome.err;
  }
}

struct Refusal {
  const char* name;
  std::string script;
  std::vector<const char*> says;
};

class BenchRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(BenchRefusalTest, IsReportedOnce) {
  const Workspace workspace;
  const Outcome outcome = workspace.Run(GetParam().script);
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  for (const char* part : GetParam().says) EXPECT_THAT(outcome.err, HasSubstr(part));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  ExpectNoCrash(outcome);
}

INSTANTIATE_TEST_SUITE_P(
    Mistakes, BenchRefusalTest,
    ::testing::Values(
        Refusal{"UnknownPart", "cairn bench stp", {"`stp`", "did you mean `step`?"}},
        Refusal{"NoConfig", "cairn bench step", {"CONFIG is required"}},
        Refusal{"NoConfigOnTwoRanks", "mpirun -n 2 cairn bench step", {"CONFIG is required"}},
        Refusal{"UnknownField", "cairn bench step tiny.textproto lrr=1", {"lrr"}},
        Refusal{"Layout",
                "cairn bench step tiny.textproto --tensor-model-parallel-size 2",
                {"--tensor-model-parallel-size 2", "mpirun -n 2"}},
        Refusal{"NoVocabulary",
                "grep -v tokenizer tiny.textproto > bare; cairn bench step bare",
                {"model.vocab_size", "is not set"}},
        Refusal{"NoSteps", "cairn bench step tiny.textproto --steps 0", {"--steps: 0 is not"}},
        Refusal{"Precision", "cairn bench matmul --precision fp8", {"--precision"}},
        Refusal{"Extent", "cairn bench norm --rows -3", {"--rows: -3 is not a number"}},
        Refusal{"Ranks", "cairn bench collective --ranks 0", {"--ranks: 0 is not"}},
        Refusal{"ToleranceOfNothing",
                "cairn bench step tiny.textproto --tolerance 3",
                {"--tolerance requires --baseline"}},
        Refusal{"BaselineIsText",
                std::string(kStep) + "--baseline text.txt",
                {"text.txt", "is not the JSON"}},
        Refusal{"BaselineLacksANumber",
                "echo '{\"tokens_per_second\": \"1\"}' > b; " + std::string(kStep) + "--baseline b",
                {"b: ", "no number above 0 under \"tokens_per_second\""}},
        Refusal{"BaselineOfAnotherConfig",
                std::string(kStep) + "--json > b; " + kStep + "--baseline b num_layers=1",
                {"b: ", "another config"}}),
    [](const auto& info) { return info.param.name; });

TEST(BenchStepTest, MissingBaselineIsStatusThree) {
  const Workspace workspace;
  const Outcome outcome = workspace.Run(std::string(kStep) + "--baseline nowhere.json");
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("nowhere.json"));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
}

}  // namespace
}  // namespace cairn::testing
