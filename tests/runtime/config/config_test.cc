#include "runtime/config/config.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/runtime/config/config_testing.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;

const ConfigSources kPresets{CAIRN_SOURCE_DIR "/configs"};

class ConfigFileTest : public ::testing::Test {
 protected:
  ConfigFileTest() {
    std::string name = (fs::temp_directory_path() / "config_test.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = name;
  }
  ~ConfigFileTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  std::string Write(const std::string& name, const std::string& text) const {
    const fs::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  fs::path folder_;
};

struct Gpt3 {
  const char* preset;
  int world_size;
  int data_parallel;
  int microbatches;
  int64_t padded_vocab;
};

class PresetTest : public ::testing::TestWithParam<Gpt3> {};

TEST_P(PresetTest, ParsesAndFits) {
  const Gpt3& gpt3 = GetParam();
  const LoadedConfig loaded = LoadConfig(gpt3.preset, {}, kPresets);
  ASSERT_NO_THROW(ValidateConfig(loaded, gpt3.world_size));
  EXPECT_EQ(DataParallelSize(loaded.config, gpt3.world_size), gpt3.data_parallel);
  EXPECT_EQ(NumMicrobatches(loaded.config, gpt3.world_size), gpt3.microbatches);
  EXPECT_EQ(PaddedVocabSize(loaded.config), gpt3.padded_vocab);
  EXPECT_EQ(loaded.config.model().name(), gpt3.preset);
  EXPECT_EQ(loaded.config.run_dir(), std::string("runs/") + gpt3.preset);
}

INSTANTIATE_TEST_SUITE_P(
    Gpt3, PresetTest,
    ::testing::Values(Gpt3{"gpt3-125m", 8, 8, 8, 50304}, Gpt3{"gpt3-350m", 8, 8, 8, 50304},
                      Gpt3{"gpt3-760m", 16, 16, 4, 50304}, Gpt3{"gpt3-1.3b", 16, 16, 8, 50304},
                      Gpt3{"gpt3-2.7b", 32, 32, 8, 50304}, Gpt3{"gpt3-6.7b", 64, 32, 16, 50432},
                      Gpt3{"gpt3-13b", 64, 16, 32, 50688}, Gpt3{"gpt3-175b", 1024, 8, 192, 51200}));

TEST(PresetsTest, EachOneParsesAndValidates) {
  const std::vector<std::string> names = PresetNames(kPresets);
  EXPECT_GE(names.size(), 9U);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) {
    const LoadedConfig loaded = LoadConfig(name, {}, kPresets);
    EXPECT_NO_THROW(ValidateConfig(loaded, std::nullopt)) << name;
  }
}

TEST(PresetsTest, TokensOfTheGpt3FamilyAreThePapers) {
  for (const std::string& name : PresetNames(kPresets)) {
    if (!name.starts_with("gpt3-")) continue;
    const TrainConfig config = LoadConfig(name, {}, kPresets).config;
    const auto tokens = [&](int64_t iterations) {
      return static_cast<double>(iterations * config.train().global_batch_size() *
                                 config.model().seq_length());
    };
    EXPECT_NEAR(tokens(config.train().train_iters()), 300e9, 4e6) << name;
    EXPECT_NEAR(tokens(config.optimizer().lr_decay_iters()), 260e9, 4e6) << name;
    EXPECT_NEAR(tokens(config.optimizer().lr_warmup_iters()), 375e6, 4e6) << name;
    EXPECT_DOUBLE_EQ(config.optimizer().min_lr() * 10, config.optimizer().lr()) << name;
  }
}

TEST(PresetsTest, QuickstartFitsAnySmallLayout) {
  for (const int tp : {1, 2, 4}) {
    for (const int pp : {1, 2, 3, 4}) {
      for (const int dp : {1, 2, 4}) {
        const LoadedConfig loaded =
            LoadConfig("quickstart",
                       ParseOverrides({fmt::format("--tensor-model-parallel-size={}", tp),
                                       fmt::format("--pipeline-model-parallel-size={}", pp),
                                       "--sequence-parallel"}),
                       kPresets);
        EXPECT_NO_THROW(ValidateConfig(loaded, tp * pp * dp));
        EXPECT_NO_THROW(RequireRunInputs(loaded));
        EXPECT_EQ(NumMicrobatches(loaded.config, tp * pp * dp), 4 / dp);
      }
    }
  }
}

TEST(ConfigTest, UnsetFieldsFollowFromOthers) {
  const TrainConfig plain = ParseText(SmallConfig()).config;
  EXPECT_EQ(FfnHiddenSize(plain), 4 * 96);
  EXPECT_EQ(NumQueryGroups(plain), 12);
  EXPECT_EQ(MaxPositionEmbeddings(plain), 32);
  EXPECT_EQ(LrDecayIters(plain), 100);
  const TrainConfig set =
      ParseText(SmallConfig(), {"ffn_hidden_size=256", "num_query_groups=4",
                                "max_position_embeddings=64", "lr_decay_iters=80"})
          .config;
  EXPECT_EQ(FfnHiddenSize(set), 256);
  EXPECT_EQ(NumQueryGroups(set), 4);
  EXPECT_EQ(MaxPositionEmbeddings(set), 64);
  EXPECT_EQ(LrDecayIters(set), 80);
  EXPECT_EQ(FfnHiddenSize(ParseText(SmallConfig(), {"ffn_hidden_size=0"}).config), 4 * 96);
}

TEST(ConfigTest, PaddedVocabularyIsAMultipleForEveryRank) {
  const auto padded = [](const std::vector<std::string>& arguments) {
    return PaddedVocabSize(ParseText(SmallConfig(), arguments).config);
  };
  EXPECT_EQ(padded({}), 1024);
  EXPECT_EQ(padded({"vocab_size=1024"}), 1024);
  EXPECT_EQ(padded({"vocab_size=1025"}), 1152);
  EXPECT_EQ(padded({"tensor_model_parallel_size=3"}), 1152);
  EXPECT_EQ(padded({"make_vocab_size_divisible_by=1"}), 1000);
}

TEST(ConfigTest, OverridesOfEveryForm) {
  const TrainConfig config = ParseText(SmallConfig(), {"model.num_layers=8",
                                                       "--tensor-model-parallel-size",
                                                       "2",
                                                       "--pipeline_model_parallel_size=4",
                                                       "--sequence-parallel",
                                                       "optimizer.min-lr=1e-5",
                                                       "--no-overlap-grad-reduce",
                                                       "--parallel.grad_reduce_bucket_mb",
                                                       "0.5",
                                                       "--optimizer",
                                                       "adamw",
                                                       "--run-dir",
                                                       "runs/a=b",
                                                       "--deterministic",
                                                       "false",
                                                       "data_path=first",
                                                       "--data-path",
                                                       "second",
                                                       "seed=1",
                                                       "seed=2"})
                                 .config;
  EXPECT_EQ(config.model().num_layers(), 8);
  EXPECT_EQ(config.parallel().tensor_model_parallel_size(), 2);
  EXPECT_EQ(config.parallel().pipeline_model_parallel_size(), 4);
  EXPECT_TRUE(config.parallel().sequence_parallel());
  EXPECT_FALSE(config.parallel().overlap_grad_reduce());
  EXPECT_DOUBLE_EQ(config.parallel().grad_reduce_bucket_mb(), 0.5);
  EXPECT_DOUBLE_EQ(config.optimizer().min_lr(), 1e-5);
  EXPECT_EQ(config.run_dir(), "runs/a=b");
  EXPECT_TRUE(config.train().has_deterministic());
  EXPECT_FALSE(config.train().deterministic());
  ASSERT_EQ(config.data().data_path_size(), 1);
  EXPECT_EQ(config.data().data_path(0), "second");
  EXPECT_EQ(config.train().seed(), 2);
}

TEST(ConfigTest, OverrideRemembersWhatWasTyped) {
  const std::vector<ConfigOverride> overrides = ParseOverrides({"--lr", "-1", "seed=3"});
  ASSERT_EQ(overrides.size(), 2U);
  EXPECT_EQ(overrides[0].path, "optimizer.lr");
  EXPECT_EQ(overrides[0].value, "-1");
  EXPECT_EQ(overrides[0].argument, "--lr -1");
  EXPECT_EQ(overrides[1].path, "train.seed");
}

TEST(ConfigTest, FieldNamesAreUniqueSoThatFlagsAre) {
  std::vector<std::string> names;
  const auto& root = *TrainConfig::descriptor();
  for (int i = 0; i < root.field_count(); ++i) {
    const auto* section = root.field(i)->message_type();
    if (section == nullptr) {
      names.push_back(root.field(i)->name());
      continue;
    }
    for (int j = 0; j < section->field_count(); ++j) names.push_back(section->field(j)->name());
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(ConfigTest, DefaultsObeyTheirOwnRules) {
  const LoadedConfig plain = ParseText(SmallConfig());
  const LoadedConfig spelled = ParseText(ConfigText(plain.config));
  EXPECT_TRUE(spelled.config.train().has_seed());
  EXPECT_TRUE(spelled.config.checkpoint().has_async());
  EXPECT_FALSE(spelled.config.model().has_ffn_hidden_size());
  EXPECT_NO_THROW(ValidateConfig(spelled, 4));
}

TEST(ConfigTest, TextRoundTrips) {
  const TrainConfig config =
      ParseText(SmallConfig(), {"lr=0.1", "min_lr=1e-300", "adam_eps=1.2345678901234567e-8",
                                "train_iters=1099511627775", "run_dir=läufe/\"x\" \\ y"})
          .config;
  const std::string text = ConfigText(config);
  const TrainConfig again = ParseText(text).config;
  EXPECT_EQ(ConfigText(again), text);
  EXPECT_EQ(again.optimizer().min_lr(), 1e-300);
  EXPECT_EQ(again.optimizer().adam_eps(), 1.2345678901234567e-8);
  EXPECT_EQ(again.train().train_iters(), 1099511627775);
  EXPECT_EQ(again.run_dir(), "läufe/\"x\" \\ y");
  EXPECT_THAT(text, HasSubstr("läufe"));
}

TEST(ConfigTest, DigestTellsConfigsApartButNotSpellings) {
  const uint64_t digest = ConfigDigest(ParseText(SmallConfig()).config);
  EXPECT_EQ(ConfigDigest(ParseText("# other text\n" + SmallConfig()).config), digest);
  EXPECT_EQ(ConfigDigest(ParseText(SmallConfig(), {"seed=1234"}).config), digest);
  EXPECT_NE(ConfigDigest(ParseText(SmallConfig(), {"seed=1235"}).config), digest);
  EXPECT_NE(ConfigDigest(ParseText(SmallConfig(), {"lr=0.0010000000000000002"}).config), digest);
}

TEST(ConfigTest, SplitSharesSumToOne) {
  const std::array<double, 3> shares = SplitShares("969,30,1", "here");
  EXPECT_DOUBLE_EQ(shares[0], 0.969);
  EXPECT_DOUBLE_EQ(shares[1], 0.03);
  EXPECT_DOUBLE_EQ(shares[2], 0.001);
  EXPECT_DOUBLE_EQ(SplitShares("5", "here")[0], 1);
  EXPECT_DOUBLE_EQ(SplitShares("0.5,0.5", "here")[1], 0.5);
}

TEST(ConfigTest, WindowsLineEndsAndCommentsAreFine) {
  const LoadedConfig loaded =
      ParseText("# größer\r\nmodel { num_layers: 2 # two\r\n}\r\nlog { log_interval: 0 }\r\n");
  EXPECT_EQ(loaded.config.model().num_layers(), 2);
  EXPECT_EQ(loaded.locations.Where("log.log_interval"), "job.textproto:4:7");
}

TEST_F(ConfigFileTest, ReadsFilesPresetsAndStandardInput) {
  const std::string path = Write("mine.textproto", SmallConfig());
  EXPECT_EQ(LoadConfig(path, {}, {}).config.model().num_layers(), 4);
  const ConfigSources here{folder_.string()};
  EXPECT_EQ(LoadConfig("mine", {}, here).source, path);
  EXPECT_THAT(PresetNames(here), Contains("mine"));

  const int saved = ::dup(STDIN_FILENO);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  ASSERT_EQ(::dup2(file, STDIN_FILENO), STDIN_FILENO);
  const ConfigFile from_stdin = ReadConfigFile("-", {});
  if (saved >= 0) {
    ASSERT_EQ(::dup2(saved, STDIN_FILENO), STDIN_FILENO);
    ::close(saved);
  }
  ::close(file);
  EXPECT_EQ(from_stdin.name, "<stdin>");
  EXPECT_EQ(from_stdin.text, SmallConfig());
}

TEST_F(ConfigFileTest, MissingOnesAreNamedWithWhatThereIs) {
  const Error mistyped = Caught([] { LoadConfig("gpt3-175", {}, kPresets); });
  EXPECT_EQ(mistyped.kind(), ErrorKind::kConfig);
  EXPECT_EQ(mistyped.where(), "gpt3-175");
  EXPECT_THAT(mistyped.message(), HasSubstr("did you mean `gpt3-175b`?"));
  EXPECT_THAT(mistyped.message(), HasSubstr("quickstart"));
  const Error path = Caught([] { LoadConfig("/nowhere/quickstar.textproto", {}, kPresets); });
  EXPECT_THAT(path.message(), HasSubstr("did you mean `quickstart`?"));
  EXPECT_THAT(Caught([] { LoadConfig("", {}, {}); }).message(), HasSubstr("no such config file"));
  EXPECT_THAT(Caught([&] { LoadConfig(folder_.string(), {}, {}); }).message(),
              HasSubstr("Is a directory"));
}

TEST_F(ConfigFileTest, LargeAndEndlessFilesAreRefused) {
  const std::string path = Write("big.textproto", std::string(2 << 20, '#'));
  EXPECT_THAT(Caught([&] { LoadConfig(path, {}, {}); }).message(), HasSubstr("larger than"));
  EXPECT_THAT(Caught([] { LoadConfig("/dev/zero", {}, {}); }).message(), HasSubstr("larger than"));
}

TEST_F(ConfigFileTest, ConfigsFolderIsFoundBesideTheProgram) {
  ::unsetenv("CAIRN_CONFIG_DIR");
  fs::create_directories(folder_ / "configs");
  EXPECT_EQ(FindConfigsDir((folder_ / "build/release/bin/cairn").string()),
            (folder_ / "configs").string());
  EXPECT_EQ(FindConfigsDir("/nowhere/a/b/bin/cairn"), "");
  ::setenv("CAIRN_CONFIG_DIR", folder_.c_str(), 1);
  EXPECT_EQ(FindConfigsDir("/nowhere/bin/cairn"), folder_.string());
  ::setenv("CAIRN_CONFIG_DIR", "/nowhere", 1);
  EXPECT_EQ(Caught([] { FindConfigsDir("/nowhere/bin/cairn"); }).where(), "CAIRN_CONFIG_DIR");
  ::unsetenv("CAIRN_CONFIG_DIR");
}

}  // namespace
}  // namespace cairn
