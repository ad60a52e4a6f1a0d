#pragma once

#include <memory>
#include <vector>

#include "model/layers/loss.h"
#include "model/layers/transformer_layer.h"
#include "parallel/pipeline/layer_split.h"

namespace cairn {

/// GPT-2/GPT-3 (Radford et al. 2019, Brown et al. 2020).
struct GptConfig {
  int64_t num_layers = 0;
  int64_t seq_length = 0;
  int64_t max_position_embeddings = 0;
  int64_t vocab_size = 0;         ///< logical rows
  int64_t padded_vocab_size = 0;  ///< a multiple of the tp size
  TransformerLayerConfig layer;
};

/// The slice of a GPT that a pipeline stage owns: the embeddings on the first stage, a range of
/// layers, the final norm and the output projection (the token embedding, tied) on the last.
class GptStage {
 public:
  GptStage(ParameterRegistry& registry, const GptConfig& config, const LayerRange& layers);

  /// From the tokens or the previous stage's rows [T or T/tp, h] to this stage's rows; on the last
  /// stage to the loss of each token, fp32 [T].
  Value Forward(ForwardContext& context, const Value& input);
  /// The logits [T, V/tp] of the last stage instead of its loss (generation).
  Value ForwardLogits(ForwardContext& context, const Value& input);

  /// Recompute each layer in the backward pass instead of keeping its activations.
  void set_recompute(bool recompute) { recompute_ = recompute; }
  const VocabShard& vocab_shard() const { return vocab_shard_; }

 private:
  Value Embed(ForwardContext& context);
  Value Layers(ForwardContext& context, const Value& input);
  /// All T rows for the output layer.
  Value HeadInput(ForwardContext& context, const Value& input);

  ModelParallel parallel_;
  GptConfig config_;
  bool recompute_ = false;
  VocabShard vocab_shard_;
  Parameter* token_embedding_ = nullptr;     // first and last stage
  Parameter* position_embedding_ = nullptr;  // first stage
  std::vector<std::unique_ptr<TransformerLayer>> layers_;
  std::unique_ptr<NormLayer> final_norm_;  // last stage
};

}  // namespace cairn
