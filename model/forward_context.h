#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "parallel/mesh.h"
#include "runtime/autograd/tape.h"
#include "runtime/tensor/random.h"

namespace cairn {

// Shape legend of the model's folders: b samples of a microbatch, s tokens of a sequence, T = b·s
// tokens of a microbatch (sample-major), h hidden size, V rows of the padded vocabulary; under
// sequence_parallel a rank holds T/tp consecutive rows between the products.

/// The tokens of one microbatch. Index 0 of everything is sample `first_sample` of the step's
/// batch.
struct Microbatch {
  Tensor tokens;   ///< int32 [T]; needed on the first stage
  Tensor targets;  ///< int32 [T], -1: not counted in the loss; needed on the last stage
  /// fp32 [T]: the gradient of the training objective with respect to each token's loss; needed on
  /// the last stage where there is a backward pass.
  Tensor loss_gradient;
  int64_t samples = 0;
  int64_t seq_length = 0;
  int64_t first_sample = 0;

  int64_t num_tokens() const { return samples * seq_length; }
};

/// Where random numbers are drawn in a layer.
enum class DropoutSite : uint32_t { kEmbedding, kAttention, kAttentionOutput, kMlpOutput };

/// Looks at numbers of a forward pass and is told what they are, in words that a message can begin
/// with. They come in the order in which they arise, and twice where they are recomputed.
using ForwardProbe = std::function<void(std::string_view what, const Tensor& numbers)>;

/// What a forward pass needs to know besides its input.
struct ForwardContext {
  Tape& tape;
  const Microbatch& batch;
  uint64_t seed = 0;
  uint32_t step = 0;
  bool training = true;     ///< dropout is on
  ForwardProbe probe = {};  ///< only while a run that left the numbers is diagnosed

  /// What a part of the model gave, which has the name of its weight if it has one.
  void Observe(std::string_view part, const Value& value) const {
    if (probe) probe(std::string("the activation after ").append(part), value.data);
  }
  /// A gradient that arises in the forward pass already, as the loss's does.
  void ObserveGradient(std::string_view of, const Tensor& gradient) const {
    if (probe) probe(std::string("the gradient of ").append(of), gradient);
  }

  /// `layer` is the global layer number. Sites below 2^31 are dropout, see initialize.cc.
  RandomKey DropoutKey(int layer, DropoutSite site) const {
    return {seed, step, (static_cast<uint32_t>(layer) << 2) | static_cast<uint32_t>(site)};
  }
};

/// How the model is cut; the same for every layer.
struct ModelParallel {
  const Mesh* mesh = nullptr;
  bool sequence_parallel = false;

  Communicator& tp() const { return mesh->tp(); }
  int tp_rank() const { return mesh->coordinate().tp; }
  int tp_size() const { return mesh->shape().tp; }
  /// Index, in the microbatch, of the first token row that this rank holds between the products.
  int64_t FirstRow(int64_t num_tokens) const {
    return sequence_parallel ? num_tokens / tp_size() * tp_rank() : 0;
  }
  int64_t NumRows(int64_t num_tokens) const {
    return sequence_parallel ? num_tokens / tp_size() : num_tokens;
  }
};

}  // namespace cairn
