#include "launcher/run_config.h"

#include "runtime/base/error.h"
#include "runtime/data/tokenizer.h"

namespace cairn {
namespace {

void ResolveVocabulary(LoadedConfig& loaded) {
  TrainConfig& config = loaded.config;
  if (!config.data().has_tokenizer()) {
    if (config.model().has_vocab_size()) return;
    Throw(ErrorKind::kConfig, loaded.locations.Where("model.vocab_size"),
          "is not set, and there is no data.tokenizer to take it from; set one of the two");
  }
  const int64_t tokens = LoadTokenizer(config.data().tokenizer())->vocab_size();
  if (!config.model().has_vocab_size()) {
    config.mutable_model()->set_vocab_size(tokens);
  } else if (config.model().vocab_size() < tokens) {
    Throw(ErrorKind::kConfig, loaded.locations.Where("model.vocab_size"),
          "{} is less than the {} tokens of {}; leave vocab_size unset to take those",
          config.model().vocab_size(), tokens, config.data().tokenizer());
  }
}

}  // namespace

void ResolveRunConfig(LoadedConfig& loaded, int world_size) {
  ValidateConfig(loaded, world_size);
  RequireRunInputs(loaded);
  ResolveVocabulary(loaded);
  ValidateConfig(loaded, world_size);
}

void ResolveShapeConfig(LoadedConfig& loaded, int world_size) {
  ValidateConfig(loaded, world_size);
  if (!loaded.config.model().has_vocab_size()) ResolveVocabulary(loaded);
  ValidateConfig(loaded, world_size);
}

}  // namespace cairn
