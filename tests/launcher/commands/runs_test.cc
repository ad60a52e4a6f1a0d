// What a run promises: its files, its numbers, and that going on changes nothing.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

// The lines of `text` that begin with `start`.
std::vector<std::string> LinesFrom(const std::string& text, std::string_view start) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(start)) lines.push_back(line);
  }
  return lines;
}

TEST(HelpTest, FitsOneScreen) {
  const Workspace workspace;
  std::istringstream help(workspace.RunWell("cairn --help"));
  int lines = 0;
  for (std::string line; std::getline(help, line); ++lines) EXPECT_LE(line.size(), 100) << line;
  EXPECT_LE(lines, 24);
}

struct Preset {
  const char* name;
  int64_t layers;
  int64_t hidden;
  int64_t vocabulary;
  int64_t positions;
  const char* overrides = "";
};

class PresetTest : public ::testing::TestWithParam<Preset> {};

TEST_P(PresetTest, DryRunCountsParameters) {
  const Preset& preset = GetParam();
  const int64_t h = preset.hidden;
  const int64_t expected = 12 * preset.layers * h * h + 13 * preset.layers * h +
                           (preset.vocabulary + preset.positions) * h + 2 * h;
  const Workspace workspace;
  std::string said =
      workspace.RunWell(fmt::format("cairn train {} --dry-run {}", preset.name, preset.overrides));
  said.resize(said.find(" parameters"));
  std::erase(said, ',');
  EXPECT_EQ(said, fmt::to_string(expected));
}

INSTANTIATE_TEST_SUITE_P(Presets, PresetTest,
                         ::testing::Values(Preset{"quickstart", 4, 256, 257, 128, "tokenizer=byte"},
                                           Preset{"gpt3-125m", 12, 768, 50257, 2048},
                                           Preset{"gpt3-350m", 24, 1024, 50257, 2048},
                                           Preset{"gpt3-760m", 24, 1536, 50257, 2048},
                                           Preset{"gpt3-1.3b", 24, 2048, 50257, 2048},
                                           Preset{"gpt3-2.7b", 32, 2560, 50257, 2048},
                                           Preset{"gpt3-6.7b", 32, 4096, 50257, 2048},
                                           Preset{"gpt3-13b", 40, 5120, 50257, 2048},
                                           Preset{"gpt3-175b", 96, 12288, 50257, 2048}),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace_if(
                               name.begin(), name.end(),
                               [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

TEST(RunTest, LeavesItsFiles) {
  const Workspace workspace;
  const Outcome outcome = workspace.Run(
      "cairn train tiny.textproto train_iters=7 log_interval=3 eval_interval=4 eval_iters=1 "
      "save_interval=2 keep=2");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  std::vector<int64_t> iterations;
  for (const Json& line : ReadMetrics(workspace / "run")) {
    iterations.push_back(line["iteration"]);
    if (line.contains("lm_loss_validation")) {
      EXPECT_THAT(Keys(line), ElementsAre("iteration", "lm_loss_validation"));
      EXPECT_GT(line["lm_loss_validation"], 1);
      continue;
    }
    Json known = line;
    known.erase("mfu");  // only where the peak of the device is known
    EXPECT_THAT(Keys(known),
                ElementsAre("iteration", "consumed_samples", "lm_loss", "grad_norm",
                            "learning_rate", "loss_scale", "skipped", "iteration_time_ms",
                            "tokens_per_second", "peak_memory_bytes"));
    EXPECT_EQ(line["consumed_samples"], 4 * line["iteration"].get<int64_t>());
    EXPECT_EQ(line["skipped"], false);
  }
  EXPECT_THAT(iterations, ElementsAre(3, 4, 6, 7));
  // The first step is shown although it is not logged.
  std::vector<std::string> shown;
  for (const std::string& line : LinesFrom(outcome.err, "iter "))
    shown.push_back(line.substr(0, 11));
  EXPECT_THAT(shown, ElementsAre("iter     1/", "iter     3/", "iter 4 | va", "iter     6/",
                                 "iter     7/"));

  int events = 0;
  for (const auto& entry : fs::directory_iterator(workspace / "run/tensorboard")) {
    EXPECT_THAT(entry.path().filename().string(), HasSubstr("tfevents"));
    EXPECT_GT(entry.file_size(), 100);
    ++events;
  }
  EXPECT_EQ(events, 1);

  const Json kept = Json::parse(workspace.RunWell("cairn ckpt ls run --json"));
  std::vector<int64_t> steps;
  for (const Json& entry : kept) steps.push_back(entry["iteration"]);
  EXPECT_THAT(steps, ElementsAre(6, 7));
}

TEST(RunTest, ItsConfigGoesOn) {
  const Workspace workspace;
  EXPECT_EQ(workspace.Run("cairn train tiny.textproto exit_interval=3 lr=0.002").status, 4);
  const std::string config = ReadText(workspace / "run/config.textproto");
  EXPECT_THAT(config, HasSubstr("lr: 0.002"));
  EXPECT_THAT(config, HasSubstr("vocab_size: 257"));
  // The summary's own words.
  const Outcome stopped = workspace.Run("cairn train tiny.textproto run_dir=b exit_interval=2");
  const std::vector<std::string> command = LinesFrom(stopped.err, "  to go on");
  ASSERT_EQ(command.size(), 1);
  const Outcome outcome = workspace.Run(command[0].substr(command[0].find("cairn train")));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(ReadMetrics(workspace / "b").size(), 4);
  workspace.RunWell("cairn train run/config.textproto load=auto");
  EXPECT_EQ(ReadMetrics(workspace / "run").size(), 4);
}

struct Layout {
  const char* name;
  const char* launch;
  const char* overrides = "";
};

constexpr Layout kLayouts[] = {
    {"OneRank", "cairn"},
    {"TwoReplicas", "mpirun -n 2 cairn", "data_parallel_sharding_strategy=optim"},
    {"TensorAndPipeline", "mpirun -n 4 cairn",
     "tensor_model_parallel_size=2 pipeline_model_parallel_size=2 sequence_parallel=true"}};

class ResumeTest : public ::testing::TestWithParam<Layout> {
 protected:
  // Trains to iteration 6; to `stop` only where it is given.
  static std::vector<Json> Train(const Workspace& workspace, const std::string& run,
                                 const Layout& layout, int64_t stop = 0) {
    const Outcome outcome = workspace.Run(fmt::format(
        "{} train tiny.textproto train_iters=6 load=auto run_dir={} exit_interval={} {}",
        layout.launch, run, stop, layout.overrides));
    EXPECT_EQ(outcome.status, stop == 0 ? 0 : 4) << outcome.err;
    return ReadMetrics(workspace / run);
  }
};

TEST_P(ResumeTest, IsBitwiseInTheSameLayoutAndCloseInOthers) {
  const Workspace workspace;
  const std::vector<Json> whole = Train(workspace, "whole", GetParam());
  ASSERT_EQ(whole.size(), 6);
  Train(workspace, "run", GetParam(), 3);
  for (const Layout& layout : kLayouts) {
    const std::string run = layout.name;
    fs::copy(workspace / "run", workspace / run, fs::copy_options::recursive);
    const std::vector<Json> resumed = Train(workspace, run, layout);
    ASSERT_EQ(resumed.size(), 6);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(resumed[i]["iteration"], whole[i]["iteration"]);
      for (const char* key : {"lm_loss", "grad_norm"}) {
        const double ours = resumed[i][key];
        const double theirs = whole[i][key];
        if (i < 3 || run == GetParam().name) {
          EXPECT_EQ(ours, theirs) << run << ", iteration " << i + 1 << ", " << key;
        } else {
          EXPECT_NEAR(ours, theirs, 2e-5 * std::abs(theirs)) << run << ", iteration " << i + 1;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, ResumeTest, ::testing::ValuesIn(kLayouts),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(RunTest, DeterministicRunsOfTwoLayoutsHaveTheSameContent) {
  const Workspace workspace;
  workspace.RunWell("cairn train tiny.textproto run_dir=a deterministic=true");
  workspace.RunWell(
      "mpirun -n 2 cairn train tiny.textproto run_dir=b deterministic=true "
      "data_parallel_sharding_strategy=optim");
  workspace.RunWell(
      "mpirun -n 2 cairn train tiny.textproto run_dir=c deterministic=true "
      "pipeline_model_parallel_size=2");
  const std::string id = workspace.RunWell("cairn ckpt id a");
  EXPECT_EQ(workspace.RunWell("cairn ckpt id b"), id);
  EXPECT_EQ(workspace.RunWell("cairn ckpt id c"), id);
  EXPECT_THAT(workspace.RunWell("cairn ckpt diff a c"), HasSubstr("all equal"));
}

class TrainedTest : public ::testing::Test {
 protected:
  TrainedTest() { workspace_.RunWell("cairn train tiny.textproto"); }

  Json RunJson(const std::string& script) const { return Json::parse(workspace_.RunWell(script)); }

  const Workspace workspace_;
};

TEST_F(TrainedTest, GeneratesTheSameFromTheSameSeed) {
  const std::string command = "cairn generate run --prompt 'the way' --max-new-tokens 12 ";
  const std::string first = workspace_.RunWell(command + "--seed 1");
  EXPECT_THAT(first, ::testing::StartsWith("the way"));
  EXPECT_EQ(workspace_.RunWell(command + "--seed 1"), first);
  EXPECT_NE(workspace_.RunWell(command + "--seed 2"), first);
  EXPECT_EQ(workspace_.RunWell(command + "--temperature 0 --seed 1"),
            workspace_.RunWell(command + "--top-k 1 --seed 2"));
  const Json json = RunJson(command + "--json");
  EXPECT_THAT(Keys(json), ::testing::UnorderedElementsAre("prompt", "text", "tokens", "iteration"));
  EXPECT_EQ(json["prompt"], "the way");
  EXPECT_LE(json["tokens"], 12);
}

TEST_F(TrainedTest, EvaluatesAsTraining) {
  const Json json = RunJson("cairn eval run --data corpus --json");
  EXPECT_THAT(Keys(json), ::testing::UnorderedElementsAre("lm_loss", "perplexity", "tokens"));
  EXPECT_NEAR(json["perplexity"], std::exp(json["lm_loss"].get<double>()), 1e-9);
  EXPECT_GT(json["tokens"], 100);
  const Json untrained = RunJson("cairn eval tiny.textproto --data corpus --json");
  EXPECT_GT(untrained["lm_loss"], json["lm_loss"]);
}

TEST_F(TrainedTest, IsInspectedAsJson) {
  const Json list = RunJson("cairn ckpt ls run --json");
  ASSERT_EQ(list.size(), 1);
  EXPECT_EQ(list[0]["state"], "committed");
  const Json info = RunJson("cairn ckpt info run --json");
  EXPECT_EQ(info["iteration"], 4);
  EXPECT_EQ(info["consumed_samples"], 16);
  EXPECT_EQ(info["tokens"], 256);
  // 12·2·32² + 13·2·32 + (257 + 16)·32 + 2·32
  EXPECT_EQ(info["kinds"]["weight"]["elements"], 34208);
  const Json tensors = RunJson("cairn ckpt tensors run --glob '*position*' --json");
  ASSERT_EQ(tensors.size(), 3);  // the weight and two moments
  EXPECT_EQ(tensors[0]["shape"], Json({16, 32}));
  const Json show = RunJson("cairn ckpt show run 'embedding.position.weight[1:3,:4]' --json");
  ASSERT_EQ(show["values"].size(), 2);
  EXPECT_EQ(show["values"][0].size(), 4);
  EXPECT_EQ(RunJson("cairn ckpt verify run --json")["ok"], true);
  EXPECT_EQ(RunJson("cairn data info corpus --json")["documents"], 20);
  EXPECT_EQ(RunJson("cairn data verify corpus --json")["ok"], true);
  const Json document = RunJson("cairn data show corpus --document 1 --tokenizer byte --json");
  EXPECT_EQ(document["tokens"].size(), 256);  // as many as are shown unasked
  EXPECT_GT(document["document_tokens"], 256);
  EXPECT_EQ(document["text"].get<std::string>().size(), 256);
}

TEST(DoctorTest, ReportsAsJson) {
  const Workspace workspace;
  const Outcome outcome = workspace.Run("cairn doctor --json");
  EXPECT_THAT(outcome.status, ::testing::AnyOf(0, 1)) << outcome.err;
  const Json report = Json::parse(outcome.out);
  EXPECT_EQ(report["able_to_train"], outcome.status == 0);
  EXPECT_GT(report["checks"].size(), 5);
}

}  // namespace
}  // namespace cairn::testing
