#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/families/gpt/gpt.h"

namespace cairn {

/// What names of a GPT-2 with its output layer begin with; those of the bare model do not.
inline constexpr const char* kHuggingFacePrefix = "transformer.";

/// One weight of a GPT as Cairn's checkpoints and Hugging Face's GPT-2 have it. The values are the
/// same; Hugging Face stores the weights of its linear layers as [in, out], and the queries of all
/// heads before all keys before all values, where Cairn has them head by head.
struct HuggingFaceTensor {
  std::string name;                         ///< in Cairn: "layers.3.attention.qkv.weight"
  std::string hugging_face_name;            ///< without the prefix: "h.3.attn.c_attn.weight"
  std::vector<int64_t> shape;               ///< in Cairn: [3h, h]
  std::vector<int64_t> hugging_face_shape;  ///< [h, 3h]
  /// Cairn's elements as an array that is cut finer than its shape: [heads, 3, head_dim, h].
  std::vector<int64_t> axes;
  /// Which of `axes` is each axis of Hugging Face's array: {3, 1, 0, 2}.
  std::vector<int> order;
};

/// How many weights a GPT of so many layers has.
int64_t HuggingFaceTensorCount(int64_t num_layers);

/// All weights, in the order of the forward pass. The model must have a key and a value for each
/// head, as GPT-2 has.
std::vector<HuggingFaceTensor> HuggingFaceTensors(const GptConfig& config);

}  // namespace cairn
