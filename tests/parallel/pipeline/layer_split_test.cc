#include "parallel/pipeline/layer_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;

std::vector<int> Counts(const std::vector<LayerRange>& ranges) {
  std::vector<int> counts;
  counts.reserve(ranges.size());
  for (const LayerRange& range : ranges) counts.push_back(range.count);
  return counts;
}

/// Stage costs of a cut, dearest first.
std::vector<double> Profile(const std::vector<int>& counts, const LayerCosts& costs) {
  std::vector<double> profile;
  profile.reserve(counts.size());
  for (const int count : counts) profile.push_back(count * costs.layer);
  profile.front() += costs.embedding;
  profile.back() += costs.head;
  std::sort(profile.rbegin(), profile.rend());
  return profile;
}

/// Calls `visit` with every way to cut `num_layers` into `stages` parts of at least one layer.
void ForEachCut(int num_layers, int stages, std::vector<int>& counts,
                const std::function<void(const std::vector<int>&)>& visit) {
  if (stages == 1) {
    counts.push_back(num_layers);
    visit(counts);
    counts.pop_back();
    return;
  }
  for (int count = 1; count <= num_layers - stages + 1; ++count) {
    counts.push_back(count);
    ForEachCut(num_layers - count, stages - 1, counts, visit);
    counts.pop_back();
  }
}

TEST(SplitLayers, IsTheBestOfAllCuts) {
  const std::vector<LayerCosts> all_costs = {{1, 0, 0}, {1, 0, 1},   {2, 1, 3},     {1, 5, 0},
                                             {1, 0, 7}, {1, 20, 20}, {4, 0.5, 5.25}};
  for (const LayerCosts& costs : all_costs) {
    for (int layers = 1; layers <= 12; ++layers) {
      for (int stages = 1; stages <= std::min(layers, 6); ++stages) {
        SCOPED_TRACE(fmt::format("{} layers, {} stages, costs {} {} {}", layers, stages,
                                 costs.layer, costs.embedding, costs.head));
        std::vector<double> best{std::numeric_limits<double>::infinity()};
        std::vector<int> latest;
        std::vector<int> scratch;
        ForEachCut(layers, stages, scratch, [&](const std::vector<int>& counts) {
          // The order of cuts: the dearest stage, then the next, ...; then layers late.
          const std::vector<double> profile = Profile(counts, costs);
          const auto later = [](const std::vector<int>& a, const std::vector<int>& b) {
            return std::lexicographical_compare(b.rbegin(), b.rend(), a.rbegin(), a.rend());
          };
          if (profile < best || (profile == best && later(counts, latest))) {
            best = profile;
            latest = counts;
          }
        });
        EXPECT_EQ(Counts(SplitLayers(layers, stages, costs)), latest);
      }
    }
  }
}

TEST(SplitLayers, CoversTheLayersInOrder) {
  for (int layers = 1; layers <= 40; ++layers) {
    for (int stages = 1; stages <= layers; ++stages) {
      int next = 0;
      const auto ranges = SplitLayers(layers, stages, {3, 1, 4});
      ASSERT_EQ(ranges.size(), static_cast<size_t>(stages));
      for (const LayerRange& range : ranges) {
        EXPECT_EQ(range.first, next);
        EXPECT_GE(range.count, 1);
        next += range.count;
      }
      EXPECT_EQ(next, layers);
    }
  }
}

TEST(SplitLayers, GivesSpareLayersToTheLaterStages) {
  EXPECT_THAT(SplitLayers(6, 4, {1, 0, 0}),
              ElementsAre(LayerRange{0, 1}, LayerRange{1, 1}, LayerRange{2, 2}, LayerRange{4, 2}));
}

TEST(SplitLayers, RelievesTheStageOfADearHead) {
  // GPT-2 small's head is worth four and a half of its layers.
  const LayerCosts costs = GptLayerCosts(768, 3072, 1024, 50304);
  EXPECT_THAT(Counts(SplitLayers(12, 2, costs)), ElementsAre(8, 4));
  // GPT-3's is worth a third of one.
  EXPECT_THAT(Counts(SplitLayers(96, 8, GptLayerCosts(12288, 49152, 2048, 51200))),
              ElementsAre(12, 12, 12, 12, 12, 12, 12, 12));
  EXPECT_THAT(Counts(SplitLayers(95, 8, GptLayerCosts(12288, 49152, 2048, 51200))),
              ElementsAre(12, 12, 12, 12, 12, 12, 12, 11));
}

TEST(SplitLayers, RefusesStagesWithoutLayers) {
  for (const auto& [layers, stages] :
       std::vector<std::pair<int, int>>{{3, 4}, {0, 1}, {4, 0}, {4, -1}, {-1, 1}, {1 << 30, 2}}) {
    try {
      (void)SplitLayers(layers, stages, {1, 0, 0});
      ADD_FAILURE() << layers << " layers over " << stages;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    }
  }
}

TEST(GptLayerCosts, AddsUpToTheKnownTotal) {
  // Narayanan et al. 2021 count 96 B s l h^2 (1 + s/6h + V/16lh) for a step with recomputation:
  // four forwards, of which the head needs but three.
  const double h = 12288;
  const double s = 2048;
  const double v = 51200;
  const LayerCosts costs = GptLayerCosts(12288, 4 * 12288, 2048, 51200);
  EXPECT_DOUBLE_EQ(costs.layer, 24 * h * h * (1 + s / (6 * h)));
  EXPECT_DOUBLE_EQ(3 * costs.head, 96 * h * h * (v / (16 * h)));
  EXPECT_LT(costs.embedding, costs.layer / 1e5);
}

}  // namespace
}  // namespace cairn
