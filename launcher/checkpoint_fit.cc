#include "launcher/checkpoint_fit.h"

#include <algorithm>
#include <optional>

#include "runtime/base/error.h"

namespace cairn {

TrainConfig ConfigOf(const Manifest& manifest, const std::string& where) {
  try {
    const LoadedConfig loaded = ParseConfig({where + ": config", manifest.config_text}, {});
    ValidateConfig(loaded, std::nullopt);
    return loaded.config;
  } catch (const Error& error) {
    Throw(ErrorKind::kCheckpoint, where, "the config inside the manifest is none: {}",
          error.what());
  }
}

void CheckFit(const Manifest& manifest, const TrainConfig& config, const std::string& where) {
  const TrainConfig saved = ConfigOf(manifest, where);
  auto same = [&](const char* field, auto theirs, decltype(theirs) ours) {
    if (theirs == ours) return;
    Throw(
        ErrorKind::kCheckpoint, where,
        "was saved with model.{} {}, this run has {}; use the checkpoint's value, or start another "
        "run_dir",
        field, theirs, ours);
  };
  same("num_layers", saved.model().num_layers(), config.model().num_layers());
  same("hidden_size", saved.model().hidden_size(), config.model().hidden_size());
  same("ffn_hidden_size", FfnHiddenSize(saved), FfnHiddenSize(config));
  same("num_attention_heads", saved.model().num_attention_heads(),
       config.model().num_attention_heads());
  same("num_query_groups", NumQueryGroups(saved), NumQueryGroups(config));
  same("vocab_size", saved.model().vocab_size(), config.model().vocab_size());
  same("max_position_embeddings", MaxPositionEmbeddings(saved), MaxPositionEmbeddings(config));
  same("norm_epsilon", saved.model().norm_epsilon(), config.model().norm_epsilon());
}

void CheckWeights(const CheckpointReader& reader, const ParameterList& parameters) {
  for (const Parameter* parameter : parameters) {
    const TensorEntry* const stored = reader.Find(parameter->name, kWeightKind);
    const Shape& shape = parameter->shard.global_shape;
    if (stored != nullptr && std::ranges::equal(stored->shape, shape.extents())) continue;
    Throw(ErrorKind::kCheckpoint, reader.directory(),
          "its config describes a model with a weight \"{}\" {}, which it {}", parameter->name,
          shape.ToString(), stored == nullptr ? "does not hold" : "holds in another shape");
  }
}

}  // namespace cairn
