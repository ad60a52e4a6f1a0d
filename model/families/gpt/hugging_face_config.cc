#include "model/families/gpt/hugging_face_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxSize = int64_t{1} << 30;

// Reads the fields of a config.json; what the file leaves out is as GPT2Config has it.
class Reader {
 public:
  Reader(const Json& json, const std::string& where) : json_(json), where_(where) {
    if (!json.is_object()) Throw(ErrorKind::kCheckpoint, where, "is not a JSON object");
  }

  template <typename... Args>
  [[noreturn]] void Fail(const char* field, fmt::format_string<Args...> format,
                         Args&&... args) const {
    Throw(ErrorKind::kCheckpoint, fmt::format("{}: {}", where_, field), format,
          std::forward<Args>(args)...);
  }

  // Null where the field is missing or null.
  const Json& Member(const char* field) const {
    static const Json null;
    const auto found = json_.find(field);
    return found == json_.end() ? null : *found;
  }

  int64_t Size(const char* field, std::optional<int64_t> unset = std::nullopt) const {
    const Json& value = Member(field);
    if (value.is_null() && unset) return *unset;
    if (value.is_null()) Fail(field, "is missing");
    if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 ||
        value.get<uint64_t>() > static_cast<uint64_t>(kMaxSize)) {
      Fail(field, "{} is not an integer from 1 to {}", Text(value), kMaxSize);
    }
    return value.get<int64_t>();
  }

  double Number(const char* field, double unset) const {
    const Json& value = Member(field);
    if (value.is_null()) return unset;
    if (!value.is_number()) Fail(field, "{} is not a number", Text(value));
    return value.get<double>();
  }

  // Refuses a switch that is not as Cairn's GPT has it.
  void Require(const char* field, bool wanted, const char* why) const {
    const Json& value = Member(field);
    if (value.is_null() || value == wanted) return;
    Fail(field, "is {}: {}", Text(value), why);
  }

  // A value for a message, however long it is.
  static std::string Text(const Json& value) {
    if (value.is_structured()) return value.is_array() ? "an array" : "an object";
    return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80);
  }

 private:
  const Json& json_;
  const std::string& where_;
};

}  // namespace

nlohmann::ordered_json HuggingFaceConfig(const GptConfig& config, const std::string& torch_dtype,
                                         std::optional<int32_t> end_of_text) {
  const TransformerLayerConfig& layer = config.layer;
  // GPT2Config's own default for the two tokens is 50256, whatever the vocabulary: null is no
  // token.
  nlohmann::ordered_json end = nullptr;
  if (end_of_text) end = *end_of_text;
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", config.vocab_size},
          {"n_positions", config.max_position_embeddings},
          {"n_embd", layer.hidden_size},
          {"n_layer", config.num_layers},
          {"n_head", layer.num_attention_heads},
          {"n_inner", layer.ffn_hidden_size},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", layer.norm_epsilon},
          {"embd_pdrop", layer.hidden_dropout},
          {"resid_pdrop", layer.hidden_dropout},
          {"attn_pdrop", layer.attention_dropout},
          {"initializer_range", layer.init_std},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"add_cross_attention", false},
          {"tie_word_embeddings", true},
          {"use_cache", true},
          {"bos_token_id", end},
          {"eos_token_id", end},
          {"torch_dtype", torch_dtype}};
}

GptConfig ParseHuggingFaceConfig(const Json& json, const std::string& where) {
  const Reader reader(json, where);
  if (reader.Member("model_type") != "gpt2") {
    reader.Fail("model_type", "is {}; only \"gpt2\" can be imported",
                Reader::Text(reader.Member("model_type")));
  }
  const Json& activation = reader.Member("activation_function");
  if (!activation.is_null() && activation != "gelu_new" && activation != "gelu_pytorch_tanh") {
    reader.Fail("activation_function",
                "is {}; Cairn's GPT has the tanh form of GELU: \"gelu_new\" or "
                "\"gelu_pytorch_tanh\"",
                Reader::Text(activation));
  }
  reader.Require("scale_attn_weights", true, "Cairn scales attention by 1/sqrt(head size)");
  reader.Require("scale_attn_by_inverse_layer_idx", false,
                 "Cairn scales attention alike in every layer");
  reader.Require("add_cross_attention", false, "a GPT has no cross attention");
  reader.Require("is_encoder_decoder", false, "a GPT has no encoder");
  for (const char* field : {"quantization_config", "pruned_heads"}) {
    const Json& value = reader.Member(field);
    if (!value.is_null() && value != Json::object()) {
      reader.Fail(field, "is {}; only whole models in floating point can be imported",
                  Reader::Text(value));
    }
  }

  GptConfig config;
  config.num_layers = reader.Size("n_layer");
  config.max_position_embeddings = reader.Size("n_positions");
  config.seq_length = config.max_position_embeddings;
  config.vocab_size = reader.Size("vocab_size");
  TransformerLayerConfig& layer = config.layer;
  layer.hidden_size = reader.Size("n_embd");
  layer.num_attention_heads = reader.Size("n_head");
  layer.num_query_groups = layer.num_attention_heads;
  layer.ffn_hidden_size = reader.Size("n_inner", 4 * layer.hidden_size);
  layer.norm_epsilon = reader.Number("layer_norm_epsilon", 1e-5);
  layer.init_std = reader.Number("initializer_range", 0.02);
  layer.hidden_dropout = reader.Number("resid_pdrop", 0.1);
  layer.attention_dropout = reader.Number("attn_pdrop", 0.1);
  const double embedding_dropout = reader.Number("embd_pdrop", 0.1);
  if (embedding_dropout != layer.hidden_dropout) {
    reader.Fail("embd_pdrop",
                "{} is not resid_pdrop {}; Cairn has one hidden_dropout for both: make them the "
                "same (only training reads them)",
                embedding_dropout, layer.hidden_dropout);
  }
  return config;
}

}  // namespace cairn
