#include "model/families/gpt/hugging_face.h"

#include <fmt/format.h>
#include <glog/logging.h>

#include <utility>

namespace cairn {
namespace {

constexpr int64_t kOutsideLayers = 4;  // two embeddings and the final norm
constexpr int64_t kPerLayer = 12;

// Collects the tensors of a model.
class Builder {
 public:
  void Same(std::string name, std::string hugging_face_name, const std::vector<int64_t>& shape) {
    std::vector<int> order;
    for (size_t d = 0; d < shape.size(); ++d) order.push_back(static_cast<int>(d));
    tensors_.push_back(
        {std::move(name), std::move(hugging_face_name), shape, shape, shape, std::move(order)});
  }

  void Norm(const std::string& name, const std::string& hugging_face_name, int64_t size) {
    Same(name + ".weight", hugging_face_name + ".weight", {size});
    Same(name + ".bias", hugging_face_name + ".bias", {size});
  }

  void Linear(const std::string& name, const std::string& hugging_face_name, int64_t in,
              int64_t out) {
    tensors_.push_back(
        {name + ".weight", hugging_face_name + ".weight", {out, in}, {in, out}, {out, in}, {1, 0}});
    Same(name + ".bias", hugging_face_name + ".bias", {out});
  }

  // Queries, keys and values of `heads` heads.
  void Qkv(const std::string& name, const std::string& hugging_face_name, int64_t in, int64_t heads,
           int64_t head_dim) {
    const int64_t out = 3 * heads * head_dim;
    tensors_.push_back({name + ".weight",
                        hugging_face_name + ".weight",
                        {out, in},
                        {in, out},
                        {heads, 3, head_dim, in},
                        {3, 1, 0, 2}});
    tensors_.push_back({name + ".bias",
                        hugging_face_name + ".bias",
                        {out},
                        {out},
                        {heads, 3, head_dim},
                        {1, 0, 2}});
  }

  std::vector<HuggingFaceTensor> Take() { return std::move(tensors_); }

 private:
  std::vector<HuggingFaceTensor> tensors_;
};

}  // namespace

int64_t HuggingFaceTensorCount(int64_t num_layers) {
  return kOutsideLayers + kPerLayer * num_layers;
}

std::vector<HuggingFaceTensor> HuggingFaceTensors(const GptConfig& config) {
  const TransformerLayerConfig& layer = config.layer;
  CHECK_EQ(layer.num_query_groups, layer.num_attention_heads);
  const int64_t h = layer.hidden_size;
  Builder builder;
  builder.Same("embedding.token.weight", "wte.weight", {config.vocab_size, h});
  builder.Same("embedding.position.weight", "wpe.weight", {config.max_position_embeddings, h});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string name = fmt::format("layers.{}.", i);
    const std::string block = fmt::format("h.{}.", i);
    builder.Norm(name + "attention_norm", block + "ln_1", h);
    builder.Qkv(name + "attention.qkv", block + "attn.c_attn", h, layer.num_attention_heads,
                layer.head_dim());
    builder.Linear(name + "attention.output", block + "attn.c_proj", h, h);
    builder.Norm(name + "mlp_norm", block + "ln_2", h);
    builder.Linear(name + "mlp.fc1", block + "mlp.c_fc", h, layer.ffn_hidden_size);
    builder.Linear(name + "mlp.fc2", block + "mlp.c_proj", layer.ffn_hidden_size, h);
  }
  builder.Norm("final_norm", "ln_f", h);
  std::vector<HuggingFaceTensor> tensors = builder.Take();
  CHECK_EQ(std::ssize(tensors), HuggingFaceTensorCount(config.num_layers));
  return tensors;
}

}  // namespace cairn
