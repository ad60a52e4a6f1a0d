#include <array>
#include <string>
#include <vector>

#include "runtime/config/config.h"
#include "tests/fuzz/fuzz_testing.h"

// A config, and what stands behind it on the command line. Input: the text, then arguments, each
// after a byte 0xff, which is in no text.

namespace cairn::fuzz {
namespace {

constexpr char kSeparator = '\xff';

// What a valid config says of itself must not overflow, nor stop the program.
void UseValues(const TrainConfig& config) {
  CHECK_GT(FfnHiddenSize(config), 0);
  CHECK_GT(NumQueryGroups(config), 0);
  CHECK_GT(MaxPositionEmbeddings(config), 0);
  CHECK_GT(LrDecayIters(config), 0);
  if (config.model().has_vocab_size()) {
    CHECK_GE(PaddedVocabSize(config), config.model().vocab_size());
  }
}

void RunOne(std::string_view input) {
  const size_t input_bytes = input.size();
  std::vector<std::string> parts;
  while (true) {
    const size_t end = std::min(input.find(kSeparator), input.size());
    parts.emplace_back(input.substr(0, end));
    if (end == input.size()) break;
    input.remove_prefix(end + 1);
  }
  const ConfigFile file = {"input", parts[0]};
  parts.erase(parts.begin());
  const auto loaded = Try(input_bytes, kConfigBound, {ErrorKind::kConfig, ErrorKind::kUsage},
                          [&] { return ParseConfig(file, ParseOverrides(parts)); });
  if (!loaded) return;
  const auto check = [&](std::optional<int> world_size) {
    return Try(input_bytes, kConfigBound, {ErrorKind::kConfig}, [&] {
      ValidateConfig(*loaded, world_size);
      return true;
    });
  };
  if (!check(std::nullopt)) return;
  UseValues(loaded->config);
  static constexpr std::array<int, 4> kWorldSizes = {0, 1, 6, 1 << 20};
  const int world_size = kWorldSizes[input_bytes % kWorldSizes.size()];
  if (check(world_size)) CHECK_GT(NumMicrobatches(loaded->config, world_size), 0);
  // Its own text is a config, and the same.
  const std::string text = ConfigText(loaded->config);
  const LoadedConfig again = ParseConfig({"again", text}, {});
  ValidateConfig(again, std::nullopt);
  CHECK_EQ(ConfigText(again.config), text);
  CHECK_EQ(ConfigDigest(again.config), ConfigDigest(loaded->config));
}

}  // namespace
}  // namespace cairn::fuzz

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  // Descriptors and the like are made once, whoever comes first.
  cairn::ConfigText(cairn::ParseConfig({"first", "model { num_layers: 1 }"}, {}).config);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::fuzz::RunOne(cairn::fuzz::AsText(data, size));
  return 0;
}
