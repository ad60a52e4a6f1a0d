#include "parallel/pipeline/layer_split.h"

#include <glog/logging.h>

#include <cmath>
#include <functional>
#include <queue>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {
namespace {

// Deeper than any model; a mistyped depth stops here, not in the allocator.
constexpr int kMaxLayers = 1 << 20;

}  // namespace

LayerCosts GptLayerCosts(int64_t hidden_size, int64_t ffn_hidden_size, int64_t seq_length,
                         int64_t padded_vocab_size) {
  const auto hidden = static_cast<double>(hidden_size);
  const auto ffn = static_cast<double>(ffn_hidden_size);
  const auto sequence = static_cast<double>(seq_length);
  const auto vocabulary = static_cast<double>(padded_vocab_size);
  return {.layer = hidden * (8 * hidden + 4 * sequence + 4 * ffn),
          .embedding = hidden,
          .head = 2 * hidden * vocabulary};
}

std::vector<LayerRange> SplitLayers(int num_layers, int virtual_stages, const LayerCosts& costs) {
  CHECK(std::isfinite(costs.layer) && costs.layer > 0) << costs.layer;
  CHECK(std::isfinite(costs.embedding) && costs.embedding >= 0) << costs.embedding;
  CHECK(std::isfinite(costs.head) && costs.head >= 0) << costs.head;
  if (num_layers < 1 || num_layers > kMaxLayers) {
    Throw(ErrorKind::kConfig, "model.num_layers", "a model has 1 to {} layers, not {}", kMaxLayers,
          num_layers);
  }
  if (virtual_stages < 1 || virtual_stages > num_layers) {
    Throw(ErrorKind::kConfig, "parallel.pipeline_model_parallel_size",
          "{} layers do not fill {} virtual stages; 1 to {} stages fit", num_layers, virtual_stages,
          num_layers);
  }
  std::vector<int> counts(virtual_stages, 1);
  const auto cost_with = [&](int stage, int count) {
    return count * costs.layer + (stage == 0 ? costs.embedding : 0) +
           (stage == virtual_stages - 1 ? costs.head : 0);
  };

  // Layers are alike, so only the counts matter: one layer after the other goes to the stage that
  // is cheapest once it has it. No cut is better: a stage gets to a cost only when every other one
  // would have become as dear by a layer more.
  using Bid = std::pair<double, int>;  // the cost with one layer more; the stage, last first
  std::priority_queue<Bid, std::vector<Bid>, std::greater<>> bids;
  for (int stage = 0; stage < virtual_stages; ++stage) bids.push({cost_with(stage, 2), -stage});
  for (int layer = virtual_stages; layer < num_layers; ++layer) {
    const int stage = -bids.top().second;
    bids.pop();
    ++counts[stage];
    bids.push({cost_with(stage, counts[stage] + 1), -stage});
  }

  std::vector<LayerRange> ranges;
  int first = 0;
  for (const int count : counts) {
    ranges.push_back({first, count});
    first += count;
  }
  return ranges;
}

}  // namespace cairn
