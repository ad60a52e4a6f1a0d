#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "model/families/gpt/gpt.h"

namespace cairn {

/// The config.json of a GPT-2 of this shape. `torch_dtype` is what its files hold, as PyTorch calls
/// it; `end_of_text` is the token that ends a document, where one is known.
nlohmann::ordered_json HuggingFaceConfig(const GptConfig& config, const std::string& torch_dtype,
                                         std::optional<int32_t> end_of_text);

/// The inverse. What Cairn's GPT does not compute, or a value that is no number of its kind, is an
/// Error of kind kCheckpoint at "`where`: FIELD". Sizes are from 1 to 2^30; whether they fit
/// together is not looked at. seq_length is max_position_embeddings; padded_vocab_size stays 0.
GptConfig ParseHuggingFaceConfig(const nlohmann::json& json, const std::string& where);

}  // namespace cairn
