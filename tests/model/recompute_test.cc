#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <mutex>

#include "parallel/local_communicator.h"
#include "tests/model/gpt_parity_testing.h"

namespace cairn::testing {
namespace {

struct Outcome {
  double loss = 0;
  std::map<std::string, std::vector<uint32_t>> gradient_bits;  // by "rank parameter"

  bool operator==(const Outcome&) const = default;
};

Outcome RunLayout(const TestLayout& layout) {
  const ReferenceCase reference("gpt");
  Outcome outcome;
  std::mutex mutex;
  RunLocalRanks(layout.mesh.world(), [&](Communicator& world) {
    ModelRank rank(world, reference, layout);
    const double loss = rank.Run();
    const std::lock_guard<std::mutex> lock(mutex);
    outcome.loss = loss;
    for (const Parameter* parameter : rank.parameters()) {
      std::vector<uint32_t>& bits =
          outcome.gradient_bits[fmt::format("{} {}", world.rank(), parameter->name)];
      for (const float g : rank.Gradient(*parameter)) {
        bits.push_back(std::bit_cast<uint32_t>(g));
      }
    }
  });
  return outcome;
}

class RecomputeTest : public ::testing::TestWithParam<TestLayout> {};

TEST_P(RecomputeTest, ChangesNoBitOfLossOrGradients) {
  TestLayout layout = GetParam();
  const Outcome kept = RunLayout(layout);
  layout.recompute = true;
  const Outcome recomputed = RunLayout(layout);
  EXPECT_EQ(kept.loss, recomputed.loss);
  for (const auto& [name, bits] : kept.gradient_bits) {
    EXPECT_TRUE(bits == recomputed.gradient_bits.at(name)) << name;
  }
  EXPECT_EQ(kept.gradient_bits.size(), recomputed.gradient_bits.size());

  layout.dropout = 0;
  EXPECT_NE(RunLayout(layout).loss, kept.loss) << "dropout was off";
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RecomputeTest,
    ::testing::Values(TestLayout{.micro_batch_size = 4, .dropout = 0.1},
                      TestLayout{.exact = true, .micro_batch_size = 2, .dropout = 0.1},
                      TestLayout{.mesh = {.tp = 2, .pp = 2},
                                 .sequence_parallel = true,
                                 .dtype = DType::kBFloat16,
                                 .micro_batch_size = 2,
                                 .dropout = 0.1},
                      TestLayout{.mesh = {.dp = 2, .pp = 3}, .dropout = 0.1}));

}  // namespace
}  // namespace cairn::testing
