#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/checkpoint/store.h"
#include "tests/launcher/commands/program_testing.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

// `cairn ckpt` over checkpoints of known content.

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Two layers that are alike, one that is not, and a few more.
std::vector<WholeTensor> Tensors(uint32_t seed) {
  std::vector<WholeTensor> tensors;
  for (int layer = 0; layer < 3; ++layer) {
    const std::string name = fmt::format("layers.{}.", layer);
    const int64_t rows = layer < 2 ? 4 : 5;
    for (const char* kind : {"weight", "exp_avg"}) {
      tensors.push_back(
          {name + "fc.weight", kind, "F32", {rows, 6}, BytesOf(cairn::Values(rows * 6, seed++))});
    }
    tensors.push_back(
        {name + "fc.bias", "weight", "BF16", {2}, std::string("\x80\x3f\x00\xc0", 4)});
  }
  tensors.push_back({"step", "weight", "I64", {}, BytesOf(std::vector<int64_t>{seed})});
  return tensors;
}

Manifest Description(int64_t iteration) {
  Manifest manifest;
  manifest.iteration = iteration;
  manifest.consumed_samples = iteration * 8;
  manifest.config_text = R"(
    model { num_layers: 3 hidden_size: 6 num_attention_heads: 1 seq_length: 8 vocab_size: 16 }
    train { global_batch_size: 8 train_iters: 300 }
    optimizer { lr: 0.001 }
    data { data_path: "corpus" })";
  manifest.training_state.loss_scale = 1024;
  manifest.training_state.optimizer_steps = iteration;
  manifest.layout = {{"tensor_model_parallel_size", "2"}};
  return manifest;
}

// "run" holds iterations 100 and 200; "other" holds 200 alone, in another layout.
class InspectionTest : public ::testing::Test {
 protected:
  InspectionTest() {
    WriteTiledCheckpoint(workspace_ / "run", Description(100), Tensors(1), 2, 2, 1);
    WriteTiledCheckpoint(workspace_ / "run", Description(200), Tensors(2), 2, 2, 1);
    WriteTiledCheckpoint(workspace_ / "other", Description(200), Tensors(2), 5, 3, 7);
  }

  std::string Step(int64_t iteration) const { return StepDirectory(workspace_ / "run", iteration); }
  Outcome Run(const std::string& words) const { return workspace_.Run("cairn ckpt " + words); }
  std::string RunWell(const std::string& words) const {
    return workspace_.RunWell("cairn ckpt " + words);
  }
  Json RunJson(const std::string& words) const { return Json::parse(RunWell(words + " --json")); }

  // The iterations that `gc` says it removes.
  std::vector<int64_t> Gc(const std::string& words) const {
    std::vector<int64_t> removed;
    const Json report = RunJson("gc " + words);
    for (const Json& step : report["steps"]) {
      if (step["remove"]) removed.push_back(step["iteration"]);
    }
    return removed;
  }

  const Workspace workspace_;
};

TEST_F(InspectionTest, HelpFitsOneScreen) {
  const std::string help = RunWell("--help");
  EXPECT_LE(std::ranges::count(help, '\n'), 24);
  size_t begin = 0;
  for (size_t end = 0; (end = help.find('\n', begin)) != std::string::npos; begin = end + 1) {
    EXPECT_LE(end - begin, 100U) << help.substr(begin, end - begin);
  }
}

TEST_F(InspectionTest, EveryCommandHasHelp) {
  std::istringstream help(RunWell("--help"));
  std::string line;
  while (std::getline(help, line) && !line.starts_with("Subcommands:")) {
  }
  int commands = 0;
  std::string name;
  for (; std::getline(help, line) && std::istringstream(line) >> name; ++commands) {
    EXPECT_THAT(RunWell(name + " --help"), HasSubstr("Usage: cairn ckpt " + name)) << line;
  }
  EXPECT_GT(commands, 10);
}

TEST_F(InspectionTest, LsShowsStateAgeAndProblems) {
  fs::remove(Step(200) + "/COMMIT");
  const Outcome outcome = Run("ls run");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out,
              HasSubstr("iteration  state         size  files  written               age  path\n"));
  EXPECT_THAT(outcome.out, HasSubstr("      100  committed"));
  EXPECT_THAT(outcome.out, HasSubstr("      200  aborted"));
  EXPECT_THAT(outcome.err, HasSubstr("step-00000200: COMMIT: is missing"));
  const Json list = RunJson("ls run");
  ASSERT_EQ(list.size(), 2U);
  EXPECT_GE(list[0]["age_seconds"], 0);
  EXPECT_LT(list[0]["age_seconds"], 600);
  EXPECT_THAT(list[1]["problem"], HasSubstr("never finished"));
}

TEST_F(InspectionTest, ColourIsForTerminalsAndThoseWhoWantIt) {
  // `script` runs its command on a terminal of its own.
  const auto on_terminal = [&](const std::string& settings) {
    return workspace_.RunWell(settings + " script -qec 'cairn ckpt ls run' /dev/null");
  };
  EXPECT_THAT(on_terminal("TERM=xterm"), HasSubstr("\x1b[32mcommitted\x1b[0m"));
  EXPECT_THAT(on_terminal("TERM=xterm NO_COLOR=1"), Not(HasSubstr("\x1b")));
  EXPECT_THAT(on_terminal("TERM=dumb"), Not(HasSubstr("\x1b")));
  EXPECT_THAT(workspace_.RunWell("TERM=xterm cairn ckpt ls run"), Not(HasSubstr("\x1b")));
}

TEST_F(InspectionTest, TreeMakesOneBranchOfAlikeLayers) {
  EXPECT_EQ(RunWell("tree run"),
            "name          dtype  shape      parameters  bytes  kinds\n"
            "all                                     85  644 B\n"
            "  layers                                84  636 B\n"
            "    [0-1].fc                x2          52  392 B\n"
            "      bias    BF16   [2]                 4    8 B\n"
            "      weight  F32    [4,6]              48  384 B  +exp_avg\n"
            "    2.fc                                32  244 B\n"
            "      bias    BF16   [2]                 2    4 B\n"
            "      weight  F32    [5,6]              30  240 B  +exp_avg\n"
            "  step        I64    []                  1    8 B\n");
  const Json tree = RunJson("tree run");
  EXPECT_EQ(tree["parameters"], 85);
  EXPECT_EQ(tree["children"][0]["children"][0]["count"], 2);
  EXPECT_EQ(tree["children"][1]["kinds"]["weight"], "I64");
}

TEST_F(InspectionTest, TensorsAreFilteredByNameAndKind) {
  EXPECT_EQ(RunJson("tensors run").size(), 10U);
  EXPECT_EQ(RunJson("tensors run --glob '*.fc.weight'").size(), 6U);
  EXPECT_EQ(RunJson("tensors run --glob '*.fc.weight' --kind exp_avg").size(), 3U);
  EXPECT_EQ(RunJson("tensors run --kind none").size(), 0U);
}

TEST_F(InspectionTest, StatsAreThoseOfTheValues) {
  const Json stats = RunJson("stats run --glob 'layers.0.fc.bias'");
  ASSERT_EQ(stats.size(), 1U);
  EXPECT_EQ(stats[0]["min"], -2);
  EXPECT_EQ(stats[0]["max"], 1);
  EXPECT_EQ(stats[0]["mean"], -0.5);
  EXPECT_EQ(stats[0]["nans"], 0);
  EXPECT_EQ(stats[0]["histogram"]["edges"], Json({-4, -2, -1, 1, 2, 4}));
  EXPECT_EQ(stats[0]["histogram"]["counts"], Json({1, 0, 0, 1, 0}));
  const std::string text = RunWell("stats run --glob 'layers.0.fc.bias'");
  EXPECT_THAT(text,
              HasSubstr("layers.0.fc.bias  weight  BF16          2   -2    1  -0.5        1.5"));
  EXPECT_THAT(text, HasSubstr("  -4  -2      1  ########"));
  // Bars for one, or for those who ask.
  EXPECT_THAT(RunWell("stats run"), Not(HasSubstr("#")));
  EXPECT_THAT(RunWell("stats run --histogram linear"),
              HasSubstr("\nlayers.2.fc.weight (exp_avg)\n"));
  EXPECT_EQ(RunJson("stats run --kind weight").size(), 7U);
}

TEST_F(InspectionTest, LayoutDrawsRectangles) {
  const Json layout = RunJson("layout run");
  EXPECT_EQ(layout["layout"]["tensor_model_parallel_size"], "2");
  ASSERT_EQ(layout["shards"].size(), 2U);
  EXPECT_EQ(layout["shards"][0]["file"], "shard-00000.safetensors");
  EXPECT_THAT(RunWell("layout run"), HasSubstr("layers.[0-2]"));
  const Json tensor = RunJson("layout other layers.0.fc.weight");
  int64_t elements = 0;
  for (const Json& chunk : tensor["chunks"]) {
    elements += chunk["extent"][0].get<int64_t>() * chunk["extent"][1].get<int64_t>();
  }
  EXPECT_EQ(elements, 24);
  // The small checkpoint of other tests has rows here and columns there.
  WriteSmallCheckpoint(workspace_ / "small", 1);
  EXPECT_THAT(RunWell("layout small layers.0.mlp.fc1.weight"),
              HasSubstr("layers.0.mlp.fc1.weight (weight) F32 [6,4]\n"
                        "  0                                                               4\n"
                        "0 +---------------------------------------------------------------+\n"));
  EXPECT_THAT(RunWell("layout small layers.0.mlp.fc1.weight --kind exp_avg"),
              HasSubstr("  0                               2                               4\n"
                        "0 +-------------------------------+-------------------------------+\n"));
  EXPECT_THAT(RunWell("layout small counter"), HasSubstr("counter (weight) I64 []"));
  RunWell("layout small nothing");
}

TEST_F(InspectionTest, IdIsOfTheContentNotOfTheLayout) {
  const std::string id = RunWell("id run");
  EXPECT_EQ(id.size(), 65U);
  EXPECT_EQ(RunWell("id other"), id);
  EXPECT_NE(RunWell("id " + Step(100)), id);
  EXPECT_NE(RunWell("id run --weights"), id);
  EXPECT_EQ(RunJson("id run")["id"].get<std::string>() + "\n", id);
  // A stranger's way to it, and the reader that the documentation gives to strangers.
  EXPECT_EQ(workspace_.RunWell("cairn ckpt id run --text | sha256sum | cut -d' ' -f1"), id);
  for (const char* run : {"run", "other"}) {
    EXPECT_EQ(workspace_.RunWell(fmt::format(
                  "sed '1,/^```python$/d;/^```$/,$d' {}/docs/checkpoints.md > reader.py; "
                  "python3 reader.py {}/checkpoints/step-00000200",
                  CAIRN_SOURCE_DIR, run)),
              id);
  }
  EXPECT_THAT(RunWell("id run --text"), StartsWith("cairn content 1\niteration 200\n"));
}

TEST_F(InspectionTest, DiffComparesAcrossLayouts) {
  const std::string same = RunWell("diff run other");
  EXPECT_EQ(same, "10 tensors compared, 0 with differing bits: all equal\n");
  const Outcome outcome = Run(fmt::format("diff {} other", Step(100)));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, StartsWith("iteration: 100 and 200\nconsumed_samples: 800 and 1600\n"));
  EXPECT_THAT(outcome.out, HasSubstr("they differ"));
  const Outcome json = Run(fmt::format("diff {} other --json", Step(100)));
  EXPECT_EQ(json.status, 1);
  const Json report = Json::parse(json.out);
  EXPECT_EQ(report["equal"], false);
  EXPECT_EQ(report["tensors_compared"], 10);
  EXPECT_EQ(report["tensors"][0]["name"], "layers.0.fc.weight");
  EXPECT_EQ(report["tensors"][0]["first"]["index"], Json({0, 0}));
  // Values differ by 1/1024 each.
  const std::string words = fmt::format("diff {} other --glob 'layers.*' ", Step(100));
  EXPECT_EQ(Run(words).status, 1);
  EXPECT_THAT(RunWell(words + "--atol 0.001"), HasSubstr("equal within the tolerance"));
  EXPECT_EQ(Run(words + "--atol 0.0009").status, 1);
  EXPECT_EQ(Run(words + "--kind weight --rtol 1").status, 0);
}

TEST_F(InspectionTest, WhyNotSaysWhatIsWrongAndWhatToDo) {
  EXPECT_THAT(RunWell("why-not " + Step(200)), HasSubstr(": a run can resume from it\n"));
  EXPECT_THAT(RunWell("why-not " + Step(100)), HasSubstr("step-00000200, the newest good one"));
  const auto ask = [&](const std::string& step, std::vector<const char*> says) {
    const Outcome text = Run("why-not " + step);
    EXPECT_EQ(text.status, 1) << text.out;
    EXPECT_EQ(text.err, "");
    for (const char* part : says) EXPECT_THAT(text.out, HasSubstr(part));
    const Outcome json = Run("why-not --json " + step);
    EXPECT_EQ(json.status, 1);
    EXPECT_EQ(Json::parse(json.out)["resumable"], false);
    EXPECT_GE(Json::parse(json.out)["reasons"].size(), 1U);
  };
  // A flipped bit, which a quick look does not see.
  const std::string shard = Step(200) + "/shard-00000.safetensors";
  std::string image = cairn::ReadFile(shard);
  image.back() ^= 1;
  cairn::WriteFile(shard, image);
  ask("run", {"It is damaged: shard-00000.safetensors: tensor \"", "CRC32C"});
  EXPECT_EQ(Run("why-not --quick run").status, 0);
  QuarantineCheckpoint(Step(200));
  ask("run", {"set aside", "DAMAGED", "step-00000100, the newest good one"});
  fs::remove(Step(200) + "/DAMAGED");
  fs::rename(shard, shard + ".part");
  ask("run", {"never finished", "has 3 files, 1 of them written in part", "`cairn ckpt gc RUN`"});
  fs::rename(Step(100), Step(50));
  ask(Step(50),
      {"is of iteration 100, the folder is step-00000050", "no good checkpoint beside it"});
  // Weights alone do not tell how the optimizer went on.
  std::vector<WholeTensor> weights = Tensors(1);
  std::erase_if(weights, [](const WholeTensor& t) { return t.kind != "weight"; });
  ask(WriteTiledCheckpoint(workspace_ / "weights", Description(9), weights, 1, 1, 0),
      {"weights only, after 9 steps"});
}

TEST_F(InspectionTest, GcRemovesWhatItSaysAndNothingOnADryRun) {
  fs::remove(WriteTiledCheckpoint(workspace_ / "run", Description(50), Tensors(0), 1, 1, 0) +
             "/COMMIT");
  fs::remove(WriteTiledCheckpoint(workspace_ / "run", Description(300), Tensors(0), 1, 1, 0) +
             "/COMMIT");
  EXPECT_THAT(Gc("run --dry-run --keep 1"), ElementsAre(50, 100));
  EXPECT_EQ(RunJson("ls run").size(), 4U);
  EXPECT_THAT(Gc("run --keep 1 --keep-every 100"), ElementsAre(50));
  EXPECT_THAT(Gc("run"), ElementsAre());
  const Outcome outcome = Run("gc run --keep 1");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, HasSubstr("100  committed"));
  EXPECT_THAT(outcome.out, HasSubstr("may be a save under way"));
  EXPECT_THAT(outcome.err, HasSubstr("freed "));
  EXPECT_EQ(RunJson("verify " + Step(200))["ok"], true);
  EXPECT_EQ(RunJson("ls run").size(), 2U);
}

#ifndef CAIRN_SANITIZED  // sanitizers take terabytes of address space
// What a command holds must not grow with the checkpoint: 160 MiB of data pass through 128 MiB.
TEST(InspectionOfLargeTest, MemoryIsBounded) {
  const Workspace workspace;
  const std::vector<int64_t> shape = {40 << 10, 1 << 10};
  const auto fill = [&](int64_t columns, int64_t first) {
    return [=](uint64_t begin, std::span<std::byte> out) {
      auto* values = reinterpret_cast<uint32_t*>(out.data());
      for (size_t i = 0; i < out.size() / 4; ++i) {
        const int64_t place = static_cast<int64_t>(begin / 4 + i);
        values[i] = 0x3f800000U +
                    static_cast<uint32_t>((place / columns) * shape[1] + first + place % columns);
      }
    };
  };
  for (const int64_t columns : {shape[1], shape[1] / 4}) {
    const std::string run = workspace / fmt::format("cut{}", columns);
    const std::string directory = BeginCheckpoint(run, 1);
    Manifest manifest;
    manifest.iteration = 1;
    std::vector<ShardResult> shards;
    for (int64_t first = 0; first < shape[1]; first += columns) {
      ShardWriter writer(directory, ShardFileName(static_cast<int>(first / columns)));
      const auto bytes = static_cast<uint64_t>(shape[0] * columns * 4);
      writer.Add({"large",
                  "weight",
                  "F32",
                  shape,
                  {0, first},
                  {shape[0], columns},
                  ByteSource(bytes, fill(columns, first))});
      shards.push_back(writer.Write());
    }
    MergeShards(std::move(shards), manifest);
    CommitCheckpoint(directory, manifest);
  }
  const auto bounded = [&](const std::string& words) {
    return workspace.RunWell("ulimit -d 131072; cairn ckpt " + words);
  };
  EXPECT_EQ(bounded("id cut1024"), bounded("id cut256"));
  EXPECT_THAT(bounded("diff cut1024 cut256"), HasSubstr("all equal"));
  EXPECT_THAT(bounded("stats cut256"), HasSubstr("41943040"));
  EXPECT_THAT(bounded("stats cut256 --histogram linear"), HasSubstr("###"));
  // The limit can be felt: `show` holds all that it shows.
  const Outcome outcome =
      workspace.Run("ulimit -d 131072; cairn ckpt show cut1024 'large[:4096]' > /dev/null");
  EXPECT_EQ(outcome.status, 3);
  EXPECT_THAT(outcome.err, HasSubstr("out of memory"));
}
#endif

}  // namespace
}  // namespace cairn::testing
