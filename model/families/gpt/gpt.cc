#include "model/families/gpt/gpt.h"

#include <fmt/format.h>
#include <glog/logging.h>

#include "runtime/autograd/recompute.h"
#include "runtime/ops/dropout.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/linear.h"

namespace cairn {

GptStage::GptStage(ParameterRegistry& registry, const GptConfig& config, const LayerRange& layers)
    : parallel_(registry.parallel()), config_(config) {
  const Mesh& mesh = *parallel_.mesh;
  const int64_t h = config.layer.hidden_size;
  if (mesh.first_stage() || mesh.last_stage()) {
    const ShardSpec shard = ShardSpec::SplitPadded({config.vocab_size, h}, config.padded_vocab_size,
                                                   parallel_.tp_size(), parallel_.tp_rank());
    vocab_shard_ = {shard.held.offset[0], shard.held.extent[0]};
    token_embedding_ = &registry.Matrix("embedding.token.weight", shard, config.layer.init_std);
    token_embedding_->tied_across_stages = mesh.shape().pp > 1;
  }
  if (mesh.first_stage()) {
    position_embedding_ = &registry.Matrix(
        "embedding.position.weight", ShardSpec::Replicated({config.max_position_embeddings, h}),
        config.layer.init_std);
    registry.MarkReplicated(*position_embedding_);
  }
  for (int i = layers.first; i < layers.first + layers.count; ++i) {
    layers_.push_back(
        std::make_unique<TransformerLayer>(registry, fmt::format("layers.{}", i), i, config.layer));
  }
  if (mesh.last_stage()) {
    final_norm_ = std::make_unique<NormLayer>(registry, "final_norm", h, config.layer.norm_epsilon);
  }
}

Value GptStage::Embed(ForwardContext& context) {
  const int64_t tokens = context.batch.num_tokens();
  const Value partial = Embedding(context.tape, context.batch.tokens, token_embedding_->weight,
                                  vocab_shard_.first_row);
  const Value rows = LeaveTensorParallel(context, parallel_, partial);
  context.Observe(token_embedding_->name, rows);
  const int64_t first_row = parallel_.FirstRow(tokens);
  const Value positioned = AddPositionEmbedding(context.tape, rows, position_embedding_->weight,
                                                context.batch.seq_length, first_row);
  context.Observe(position_embedding_->name, positioned);
  DropoutSpec spec;
  spec.p = context.training ? config_.layer.hidden_dropout : 0.0;
  spec.key = context.DropoutKey(0, DropoutSite::kEmbedding);
  spec.first_index = (context.batch.first_sample * context.batch.seq_length + first_row) *
                     config_.layer.hidden_size;
  Value embedded = BiasDropoutAdd(context.tape, positioned, nullptr, nullptr, spec);
  context.Observe("embedding", embedded);
  return embedded;
}

Value GptStage::Layers(ForwardContext& context, const Value& input) {
  if (!parallel_.mesh->first_stage()) context.Observe("what the previous stage sent", input);
  Value x = parallel_.mesh->first_stage() ? Embed(context) : input;
  for (auto& layer : layers_) {
    if (!recompute_) {
      x = layer->Forward(context, x);
      continue;
    }
    // The context is rebuilt around the inner tape: random numbers are functions of indices, so the
    // second run draws the same.
    x = Recompute(context.tape, x, [&layer = *layer, context](Tape& tape, const Value& inner) {
      ForwardContext again{tape,         context.batch,    context.seed,
                           context.step, context.training, context.probe};
      return layer.Forward(again, inner);
    });
  }
  return x;
}

Value GptStage::HeadInput(ForwardContext& context, const Value& input) {
  CHECK(parallel_.mesh->last_stage());
  return EnterTensorParallel(context, parallel_,
                             final_norm_->Forward(context, Layers(context, input)));
}

Value GptStage::ForwardLogits(ForwardContext& context, const Value& input) {
  Value logits = Linear(context.tape, HeadInput(context, input), token_embedding_->weight, nullptr);
  context.Observe("logits", logits);
  return logits;
}

Value GptStage::Forward(ForwardContext& context, const Value& input) {
  if (!parallel_.mesh->last_stage()) return Layers(context, input);
  Value loss = VocabParallelLoss(context, HeadInput(context, input), token_embedding_->weight,
                                 vocab_shard_, parallel_.tp());
  context.Observe("loss", loss);
  return loss;
}

}  // namespace cairn
