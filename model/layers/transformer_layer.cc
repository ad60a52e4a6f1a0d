#include "model/layers/transformer_layer.h"

#include <fmt/format.h>

#include "runtime/ops/attention.h"
#include "runtime/ops/dropout.h"

namespace cairn {

TransformerLayer::TransformerLayer(ParameterRegistry& registry, const std::string& name, int number,
                                   const TransformerLayerConfig& config)
    : parallel_(registry.parallel()),
      config_(config),
      name_(name),
      number_(number),
      attention_norm_(registry, name + ".attention_norm", config.hidden_size, config.norm_epsilon),
      qkv_(registry, name + ".attention.qkv", config.hidden_size, config.qkv_size(),
           config.init_std),
      attention_output_(registry, name + ".attention.output", config.hidden_size,
                        config.hidden_size, config.output_init_std),
      mlp_norm_(registry, name + ".mlp_norm", config.hidden_size, config.norm_epsilon),
      fc1_(registry, name + ".mlp.fc1", config.hidden_size, config.ffn_hidden_size,
           config.init_std),
      fc2_(registry, name + ".mlp.fc2", config.ffn_hidden_size, config.hidden_size,
           config.output_init_std) {}

Value TransformerLayer::Forward(ForwardContext& context, const Value& x) {
  return MlpBlock(context, AttentionBlock(context, x));
}

Value TransformerLayer::AttentionBlock(ForwardContext& context, const Value& x) {
  AttentionSpec spec;
  spec.samples = context.batch.samples;
  spec.seq_length = context.batch.seq_length;
  spec.heads = config_.num_attention_heads / parallel_.tp_size();
  spec.groups = config_.num_query_groups / parallel_.tp_size();
  spec.head_dim = config_.head_dim();
  spec.dropout = context.training ? config_.attention_dropout : 0.0;
  spec.key = context.DropoutKey(number_, DropoutSite::kAttention);
  spec.first_sample = context.batch.first_sample;
  spec.first_head = spec.heads * parallel_.tp_rank();
  spec.total_heads = config_.num_attention_heads;

  const Value qkv = qkv_.Forward(context, attention_norm_.Forward(context, x));
  const Value attended = CausalAttention(context.tape, qkv, spec);
  Observe(context, "attention", attended);
  Value y = AddResidual(context, attention_output_.Forward(context, attended),
                        attention_output_.bias(), x, DropoutSite::kAttentionOutput);
  Observe(context, "attention_residual", y);
  return y;
}

Value TransformerLayer::MlpBlock(ForwardContext& context, const Value& x) {
  const Activated activated = fc1_.ForwardGelu(context, mlp_norm_.Forward(context, x));
  Observe(context, "mlp.gelu", activated.after);
  Value y = AddResidual(context, fc2_.Forward(context, activated), fc2_.bias(), x,
                        DropoutSite::kMlpOutput);
  Observe(context, "mlp_residual", y);
  return y;
}

void TransformerLayer::Observe(const ForwardContext& context, const char* part,
                               const Value& value) const {
  if (context.probe) context.Observe(fmt::format("{}.{}", name_, part), value);
}

Value TransformerLayer::AddResidual(ForwardContext& context, const Value& x, Weight& bias,
                                    const Value& residual, DropoutSite site) {
  const int64_t first_row = context.batch.first_sample * context.batch.seq_length +
                            parallel_.FirstRow(context.batch.num_tokens());
  DropoutSpec spec;
  spec.p = context.training ? config_.hidden_dropout : 0.0;
  spec.key = context.DropoutKey(number_, site);
  spec.first_index = first_row * config_.hidden_size;
  return BiasDropoutAdd(context.tape, x, &bias, &residual, spec);
}

}  // namespace cairn
