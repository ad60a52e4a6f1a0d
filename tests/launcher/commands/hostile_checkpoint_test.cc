#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "runtime/checkpoint/commit.h"
#include "tests/launcher/commands/program_testing.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

// Checkpoints of someone who knows the format, given to every command that opens one.

namespace cairn::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kStep = "run/checkpoints/step-00000004";

// A trained checkpoint, made once.
const Workspace& Trained() {
  static const Workspace workspace;
  static const std::string out = workspace.RunWell("cairn train tiny.textproto 2> /dev/null");
  return workspace;
}

// A copy of it in which `change` edits the manifest; digests are made to fit.
class Forged {
 public:
  explicit Forged(const std::function<void(Manifest&)>& change) {
    std::filesystem::create_directories(std::filesystem::path(workspace_ / kStep).parent_path());
    std::filesystem::copy(Trained() / kStep, workspace_ / kStep);
    Manifest manifest = LoadManifest(workspace_ / kStep);
    change(manifest);
    WriteUncheckedCommit(workspace_ / kStep, SerializeManifest(manifest), manifest.iteration);
  }

  const Workspace& workspace() const { return workspace_; }

 private:
  Workspace workspace_;
};

// Nothing of a hostile file steers the terminal.
void ExpectPlain(const std::string& text) {
  for (const char c : text) EXPECT_TRUE(c == '\n' || c == '\t' || c < 0 || c >= ' ') << text;
}

void ExpectRefused(const Outcome& outcome, const std::string& message, int status = 3) {
  EXPECT_EQ(outcome.status, status) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(message));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  ExpectPlain(outcome.err);
  ExpectNoCrash(outcome);
}

struct HostileCase {
  const char* name;
  std::function<void(Manifest&)> change;
  const char* message;
};

class HostileManifestTest : public ::testing::TestWithParam<HostileCase> {};

// The manifest cannot be trusted at all: every command says so, and names the folder and the file.
TEST_P(HostileManifestTest, IsRefusedByEveryCommand) {
  const Forged forged(GetParam().change);
  for (const char* command : {"ckpt info", "ckpt tensors", "ckpt show --json", "eval --data corpus",
                              "generate --prompt a"}) {
    const std::string tensor = std::string(command).starts_with("ckpt show") ? " x" : "";
    const Outcome outcome =
        forged.workspace().Run(std::string("cairn ") + command + " " + kStep + tensor);
    ExpectRefused(outcome, GetParam().message);
    EXPECT_THAT(outcome.err, HasSubstr(std::string(kStep) + ": MANIFEST.pb: "));
    EXPECT_EQ(outcome.out, "");
  }
  const Outcome verify = forged.workspace().Run(std::string("cairn ckpt verify --json ") + kStep);
  EXPECT_EQ(verify.status, 1) << verify.err;
  const Json json = Json::parse(verify.out);
  EXPECT_EQ(json["damages"][0]["file"], "MANIFEST.pb");
  EXPECT_THAT(json["damages"][0]["message"].get<std::string>(), HasSubstr(GetParam().message));
  const Outcome list = forged.workspace().Run("cairn ckpt ls run");
  EXPECT_EQ(list.status, 0);
  EXPECT_THAT(list.out, HasSubstr("damaged"));
  ExpectPlain(list.out + list.err);
}

std::vector<HostileCase> HostileCases() {
  using M = Manifest;
  return {
      {"PathAbove", [](M& m) { m.files[0].name = "../../../x.safetensors"; }, "not a plain name"},
      {"PathAbsolute", [](M& m) { m.files[0].name = "/dev/x.safetensors"; }, "not a plain name"},
      {"TerminalName", [](M& m) { m.tensors[0].name = "\x1b]0;x\x07"; }, "\\x1b]0;x\\x07"},
      {"HugeShape",
       [](M& m) {
         m.tensors[0].shape = {1L << 40, 1L << 40};
       },
       "is not valid"},
      {"ScaleNaN", [](M& m) { m.training_state.loss_scale = 0.0 / 0.0; }, "loss scale"},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, HostileManifestTest, ::testing::ValuesIn(HostileCases()),
                         [](const auto& info) { return std::string(info.param.name); });

struct ConfigCase {
  const char* name;
  std::string text;  ///< follows the config, or stands for it where it begins with '!'
  const char* message;
};

class HostileConfigTextTest : public ::testing::TestWithParam<ConfigCase> {};

// The config inside the manifest is text from outside like any other.
TEST_P(HostileConfigTextTest, IsRefusedBeforeTheModelIsBuilt) {
  const std::string& text = GetParam().text;
  const Forged forged([&](Manifest& manifest) {
    const bool replaces = text.starts_with('!');
    manifest.config_text = replaces ? text.substr(1) : manifest.config_text + text;
  });
  const Outcome outcome =
      forged.workspace().Run(std::string("ulimit -v 4000000; cairn eval --data corpus ") + kStep);
  ExpectRefused(outcome, GetParam().message);
  EXPECT_THAT(outcome.err, HasSubstr(kStep));
  // It is still shown, for people, without what steers a terminal.
  const Outcome info = forged.workspace().Run(std::string("cairn ckpt info ") + kStep);
  EXPECT_EQ(info.status, 0) << info.err;
  ExpectPlain(info.out);
  ExpectNoCrash(info);
  const Json json =
      Json::parse(forged.workspace().RunWell(std::string("cairn ckpt info --json ") + kStep));
  EXPECT_TRUE(json.contains("config"));
}

std::vector<ConfigCase> ConfigCases() {
  std::string deep;
  for (int i = 0; i < 3000; ++i) deep += "model {";
  const auto model = [](const char* fields) {
    return std::string(
               "!model { num_layers: 2 hidden_size: 32 num_attention_heads: 4 seq_length: "
               "16 vocab_size: 257 ") +
           fields +
           " } train { global_batch_size: 4 train_iters: 4 } optimizer { lr: 0.1 } data { "
           "tokenizer: 'byte' }";
  };
  return {
      {"Unknown", "bogus: 1", "the config inside the manifest is none"},
      {"Escapes", "# \x1b[2J\x07", "byte 0x1b is not UTF-8 text"},
      {"NotUtf8", "# \xff\xfe", "byte 0xff is not UTF-8 text"},
      {"ZeroByte", std::string("# \0", 3), "byte 0x00 is not UTF-8 text"},
      {"Deep", "!" + deep, "the config inside the manifest is none"},
      {"Empty", "!", "is not set, and has no default"},
      {"NegativeSize", "!model { num_layers: 2 hidden_size: -32 }",
       "hidden_size -32 is out of range"},
      {"NoHeads", "!model { num_layers: 2 hidden_size: 8 num_attention_heads: 0 }",
       "num_attention_heads 0 is out of range"},
      {"MoreLayers",
       "!model { num_layers: 1000000 hidden_size: 32 num_attention_heads: 4 seq_length: "
       "16 vocab_size: 257 } train { global_batch_size: 4 train_iters: 4 } optimizer { "
       "lr: 0.1 } data { tokenizer: 'byte' }",
       "its config describes 1000000 layers"},
      {"WiderModel", model("ffn_hidden_size: 1000000000"), "which it holds in another shape"},
      {"MorePositions", model("max_position_embeddings: 1000000000"),
       "which it holds in another shape"},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, HostileConfigTextTest, ::testing::ValuesIn(ConfigCases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(LinkedCheckpointTest, LinksInsideAreRefusedAndLinksToItAreFollowed) {
  const Forged forged([](Manifest&) {});
  const Workspace& workspace = forged.workspace();
  const std::string step = kStep;
  workspace.RunWell("ln -s " + step + " link; cairn ckpt verify link");
  workspace.RunWell("mv " + step + "/shard-00000.safetensors shard; ln -s ../../../shard " + step +
                    "/shard-00000.safetensors");
  ExpectRefused(workspace.Run("cairn eval --data corpus " + step), "is a symbolic link");
  const Outcome verify = workspace.Run("cairn ckpt verify " + step);
  EXPECT_EQ(verify.status, 1);
  EXPECT_THAT(verify.out, HasSubstr("shard-00000.safetensors"));
  EXPECT_THAT(verify.out, HasSubstr("is a symbolic link"));
  workspace.RunWell("mv " + step + "/COMMIT commit; ln -s ../../../commit " + step + "/COMMIT");
  ExpectRefused(workspace.Run("cairn ckpt info " + step), "COMMIT: is a symbolic link");
}

}  // namespace
}  // namespace cairn::testing
