#pragma once

#include <cstdint>
#include <vector>

namespace cairn {

/// Forward cost of the parts of a model, in any one unit.
struct LayerCosts {
  double layer;      ///< one Transformer layer
  double embedding;  ///< counted on the first virtual stage
  double head;       ///< output projection and loss, counted on the last
};

/// Floating-point operations of one token's forward pass in a GPT (a multiply-add is two; a
/// backward takes twice as many of each part): 8 h^2 for the attention's projections, 4 s h for its
/// scores over the whole sequence, 4 h f for the MLP, 2 h V for the head (cf. Narayanan et al.
/// 2021, appendix). An embedding only looks up and adds: h.
LayerCosts GptLayerCosts(int64_t hidden_size, int64_t ffn_hidden_size, int64_t seq_length,
                         int64_t padded_vocab_size);

/// Consecutive layers: [first, first + count).
struct LayerRange {
  int first;
  int count;

  bool operator==(const LayerRange&) const = default;
};

/// Cuts `num_layers` layers into one range for each of `virtual_stages`, in order and none empty,
/// so that the dearest stage is as cheap as can be: a pipeline runs at the pace of its slowest
/// stage. Among cuts of equal pace it takes the most even one, and where that leaves a choice, the
/// later stage gets the layer: it holds fewer microbatches in flight under 1F1B, so the layer's
/// activations cost least there.
/// Throws kConfig unless 1 <= virtual_stages <= num_layers <= 2^20.
std::vector<LayerRange> SplitLayers(int num_layers, int virtual_stages, const LayerCosts& costs);

}  // namespace cairn
