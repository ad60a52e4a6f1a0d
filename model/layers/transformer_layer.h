#pragma once

#include <string>

#include "model/layers/linear.h"
#include "model/layers/norm.h"

namespace cairn {

/// What a pre-norm decoder layer is made of.
struct TransformerLayerConfig {
  int64_t hidden_size = 0;
  int64_t ffn_hidden_size = 0;
  int64_t num_attention_heads = 0;
  int64_t num_query_groups = 0;  ///< of grouped-query attention; equals the heads in GPT
  double norm_epsilon = 1e-5;
  double hidden_dropout = 0;
  double attention_dropout = 0;
  double init_std = 0.02;
  double output_init_std = 0.02;  ///< of the products that end in the residual stream

  int64_t head_dim() const { return hidden_size / num_attention_heads; }
  int64_t qkv_size() const { return (num_attention_heads + 2 * num_query_groups) * head_dim(); }
};

/// x += dropout(attention(norm(x))); x += dropout(mlp(norm(x))), on rows between the products
/// [T or T/tp, h] (Radford et al. 2019). Attention heads and MLP columns are cut over tp. The qkv
/// rows of the weight stand group by group (its queries, its key, its value), so that a tp rank's
/// groups are one rectangle.
class TransformerLayer {
 public:
  /// `number` is the layer's global number; it names parameters and random sites.
  TransformerLayer(ParameterRegistry& registry, const std::string& name, int number,
                   const TransformerLayerConfig& config);
  Value Forward(ForwardContext& context, const Value& x);

 private:
  Value AttentionBlock(ForwardContext& context, const Value& x);
  Value MlpBlock(ForwardContext& context, const Value& x);
  void Observe(const ForwardContext& context, const char* part, const Value& value) const;
  /// residual + dropout(x + bias).
  Value AddResidual(ForwardContext& context, const Value& x, Weight& bias, const Value& residual,
                    DropoutSite site);

  ModelParallel parallel_;
  TransformerLayerConfig config_;
  std::string name_;
  int number_;
  NormLayer attention_norm_;
  ColumnParallelLinear qkv_;
  RowParallelLinear attention_output_;
  NormLayer mlp_norm_;
  ColumnParallelLinear fc1_;
  RowParallelLinear fc2_;
};

}  // namespace cairn
