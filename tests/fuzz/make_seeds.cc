#include <fmt/format.h>
#include <glog/logging.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/config/fields.h"
#include "tests/fuzz/checkpoint_input.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

// make_seeds FOLDER CONFIGS: writes where each target starts from, FOLDER/TARGET/*, and the words
// that it may put in, FOLDER/TARGET.dict. CONFIGS is the folder of the presets.

namespace cairn::fuzz {
namespace {

namespace fs = std::filesystem;

class Seeds {
 public:
  explicit Seeds(std::string folder) : folder_(std::move(folder)) { fs::remove_all(folder_); }

  void Add(const std::string& target, const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(folder_) / target);
    WriteFile((fs::path(folder_) / target / name).string(), content);
  }

  void AddDictionary(const std::string& target, const std::vector<std::string>& words) const {
    std::ofstream stream(fs::path(folder_) / (target + ".dict"));
    for (const std::string& word : words) {
      stream << '"';
      for (const char c : word) stream << (c == '"' || c == '\\' ? "\\" : "") << c;
      stream << "\"\n";
    }
  }

 private:
  std::string folder_;
};

// The input of the target "safetensors" for a file's JSON and the size of its data.
std::string HeaderInput(const std::string& json, uint32_t data_bytes) {
  return std::string(reinterpret_cast<const char*>(&data_bytes), sizeof(data_bytes)) + json;
}

void AddSafetensors(const Seeds& seeds, const std::vector<std::string>& shards) {
  for (size_t i = 0; i < shards.size(); ++i) {
    uint64_t length = 0;
    std::memcpy(&length, shards[i].data(), sizeof(length));
    const auto data_bytes = static_cast<uint32_t>(shards[i].size() - sizeof(length) - length);
    seeds.Add("safetensors", fmt::format("shard{}", i),
              HeaderInput(shards[i].substr(sizeof(length), length), data_bytes));
    seeds.Add("safetensors", fmt::format("file{}", i), HeaderInput(shards[i], 0xffffffff));
  }
  seeds.Add("safetensors", "metadata",
            HeaderInput(R"({"__metadata__":{"format":"pt","\u00e4\n":""},"":{"dtype":"U8",)"
                        R"("shape":[0,9],"data_offsets":[0,0]}}   )",
                        0));
  seeds.AddDictionary(
      "safetensors",
      {"\"__metadata__\":{", "\"dtype\":", "\"shape\":[", "\"data_offsets\":[", "\"F32\"",
       "\"BF16\"", "\"U8\"", "\"F8_E8M0\"", "\"C64\"", "},\"", "{}", "\\u0000", "-1", "1e9",
       "18446744073709551615", "9223372036854775807", "null", "[[", "[]"});
}

void AddConfigs(const Seeds& seeds, const std::string& configs) {
  std::vector<std::string> words = {"{",
                                    "}",
                                    ": ",
                                    "true",
                                    "false",
                                    "# ",
                                    "\"",
                                    "0x7f",
                                    "1e308",
                                    "nan",
                                    "inf",
                                    "-1",
                                    "9223372036854775807",
                                    "[",
                                    "]",
                                    "<",
                                    ">"};
  for (const ConfigField& field : ConfigFields()) {
    words.push_back(field.field->name() + ": ");
    words.push_back(field.path + "=");
    for (const std::string& choice : field.rule().choice()) words.push_back(choice);
  }
  seeds.AddDictionary("config", words);
  for (const fs::directory_entry& preset : fs::directory_iterator(configs)) {
    if (preset.path().extension() != ".textproto") continue;
    const std::string text = ReadFile(preset.path().string());
    seeds.Add("config", preset.path().stem().string(), text);
    seeds.Add("config", preset.path().stem().string() + "-arguments",
              text +
                  "\xfftrain.micro_batch_size=2\xff--lr\xff"
                  "1e-3\xff--no-tensorboard");
  }
  seeds.Add("config", "small",
            "model { num_layers: 2 hidden_size: 8 num_attention_heads: 2 seq_length: 8 vocab_size: "
            "17 } train { global_batch_size: 4 train_iters: 9 } optimizer { lr: 0.1 }");
}

void Run(const std::string& folder, const std::string& configs) {
  const Seeds seeds(folder);
  AddConfigs(seeds, configs);

  const TemporaryFolder run;
  for (const int64_t iteration : {0, 100}) {
    const std::string directory = WriteSmallCheckpoint(run.path(), iteration);
    CheckpointInput input = {.seal = false,
                             .commit = ReadFile(directory + "/" + kCommitFile),
                             .manifest = ReadFile(directory + "/" + kManifestFile),
                             .shards = {}};
    const Manifest manifest = LoadManifest(directory);
    for (const FileEntry& file : manifest.files) {
      input.shards.push_back(ReadFile(directory + "/" + file.name));
    }
    const std::string name = StepName(iteration);
    seeds.Add("commit", name, input.commit);
    seeds.Add("commit", name + "-unsigned", input.commit.substr(0, input.commit.rfind("crc32c")));
    seeds.Add("manifest", name, input.manifest);
    seeds.Add("manifest", name + "-shard",
              SerializeShardResult({manifest.files[0], {manifest.tensors[0]}}));
    if (iteration == 0) AddSafetensors(seeds, input.shards);
    seeds.Add("checkpoint", name, Pack(input));
    input.seal = true;
    seeds.Add("checkpoint", name + "-sealed", Pack(input));
  }
}

}  // namespace
}  // namespace cairn::fuzz

int main(int argc, char** argv) {
  CHECK_EQ(argc, 3) << "usage: make_seeds FOLDER CONFIGS";
  cairn::fuzz::Run(argv[1], argv[2]);
  return 0;
}
