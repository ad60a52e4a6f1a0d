#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>

#include "parallel/local_communicator.h"
#include "tests/model/gpt_parity_testing.h"

namespace cairn::testing {
namespace {

constexpr double kDropout = 0.1;

// What one rank computes of the whole model: loss and gradients by parameter.
struct Whole {
  double loss = 0;
  std::map<std::string, std::vector<float>> gradients;
};

Whole RunOneRank(const TestLayout& layout) {
  const ReferenceCase reference("gpt");
  Whole whole;
  RunLocalRanks(1, [&](Communicator& world) {
    ModelRank rank(world, reference, layout);
    whole.loss = rank.Run();
    for (const Parameter* parameter : rank.parameters()) {
      std::vector<float> gradient = rank.Gradient(*parameter);
      gradient.resize(parameter->shard.held.numel());  // no padding
      whole.gradients[parameter->name] = std::move(gradient);
    }
  });
  return whole;
}

std::vector<uint32_t> Bits(const std::vector<float>& elements) {
  std::vector<uint32_t> bits(elements.size());
  std::ranges::transform(elements, bits.begin(), std::bit_cast<uint32_t, float>);
  return bits;
}

// Runs `layout` and holds every rank's loss and gradients to its part of `whole`.
void ExpectSame(const TestLayout& layout, const Whole& whole, bool bitwise) {
  const ReferenceCase reference("gpt");
  RunLocalRanks(layout.mesh.world(), [&](Communicator& world) {
    ModelRank rank(world, reference, layout);
    const double loss = rank.Run();
    EXPECT_LE(Compare(loss, whole.loss).max, bitwise ? 1e-12 : 1e-6);
    for (const Parameter* parameter : rank.parameters()) {
      const std::vector<float> gradient = rank.Gradient(*parameter);
      const std::vector<float> expected =
          LocalPart(parameter->shard, whole.gradients.at(parameter->name));
      if (bitwise) {
        EXPECT_TRUE(Bits(gradient) == Bits(expected)) << parameter->name;
      } else {
        EXPECT_LE(Compare(gradient, expected).max, 1e-5) << parameter->name;
      }
    }
  });
}

class DropoutLayoutTest : public ::testing::TestWithParam<TestLayout> {};

TEST_P(DropoutLayoutTest, MasksAreThoseOfOneRank) {
  static const Whole whole = RunOneRank({.micro_batch_size = 4, .dropout = kDropout});
  static const Whole dry = RunOneRank({.micro_batch_size = 4});
  EXPECT_GT(Compare(whole.loss, dry.loss).max, 1e-3) << "dropout is off";
  ExpectSame(GetParam(), whole, /*bitwise=*/false);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, DropoutLayoutTest,
    ::testing::Values(TestLayout{.dropout = kDropout},
                      TestLayout{.mesh = {.tp = 2}, .micro_batch_size = 4, .dropout = kDropout},
                      TestLayout{.mesh = {.tp = 4},
                                 .sequence_parallel = true,
                                 .micro_batch_size = 4,
                                 .dropout = kDropout},
                      TestLayout{.mesh = {.dp = 2}, .dropout = kDropout},
                      TestLayout{.mesh = {.pp = 3}, .micro_batch_size = 2, .dropout = kDropout},
                      TestLayout{.mesh = {.tp = 2, .dp = 2, .pp = 2},
                                 .sequence_parallel = true,
                                 .recompute = "full",
                                 .micro_batch_size = 2,
                                 .dropout = kDropout}));

class ExactLayoutTest : public ::testing::TestWithParam<TestLayout> {};

TEST_P(ExactLayoutTest, GradientsAreThoseOfOneRankToTheBit) {
  TestLayout layout = GetParam();
  layout.exact = true;
  layout.dropout = kDropout;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    layout.dtype = dtype;
    const Whole whole =
        RunOneRank({.exact = true, .dtype = dtype, .micro_batch_size = 4, .dropout = kDropout});
    ExpectSame(layout, whole, /*bitwise=*/true);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, ExactLayoutTest,
    ::testing::Values(TestLayout{.micro_batch_size = 1},
                      TestLayout{.recompute = "full", .micro_batch_size = 2},
                      TestLayout{.mesh = {.dp = 2}}, TestLayout{.mesh = {.dp = 4}},
                      TestLayout{.mesh = {.pp = 3}, .micro_batch_size = 2},
                      TestLayout{.mesh = {.pp = 2}, .schedule = "gpipe"},
                      TestLayout{.mesh = {.dp = 2, .pp = 2}, .recompute = "full"}));

class RecomputeTest : public ::testing::TestWithParam<TestLayout> {};

// The gradients of every rank, by "rank parameter".
std::map<std::string, std::vector<uint32_t>> GradientBits(const TestLayout& layout, double* loss) {
  const ReferenceCase reference("gpt");
  std::map<std::string, std::vector<uint32_t>> gradients;
  std::mutex mutex;
  RunLocalRanks(layout.mesh.world(), [&](Communicator& world) {
    ModelRank rank(world, reference, layout);
    const double mean = rank.Run();
    const std::lock_guard<std::mutex> lock(mutex);
    *loss = mean;
    for (const Parameter* parameter : rank.parameters()) {
      gradients[std::to_string(world.rank()) + " " + parameter->name] =
          Bits(rank.Gradient(*parameter));
    }
  });
  return gradients;
}

TEST_P(RecomputeTest, ChangesNoBitOfLossOrGradients) {
  TestLayout layout = GetParam();
  layout.dropout = kDropout;
  double kept_loss = 0;
  const auto kept = GradientBits(layout, &kept_loss);
  layout.recompute = "full";
  double recomputed_loss = 0;
  const auto recomputed = GradientBits(layout, &recomputed_loss);
  EXPECT_EQ(kept_loss, recomputed_loss);
  EXPECT_EQ(kept.size(), recomputed.size());
  for (const auto& [name, bits] : kept) EXPECT_TRUE(bits == recomputed.at(name)) << name;
}

INSTANTIATE_TEST_SUITE_P(Layouts, RecomputeTest,
                         ::testing::Values(TestLayout{.micro_batch_size = 4},
                                           TestLayout{.exact = true, .micro_batch_size = 2},
                                           TestLayout{.mesh = {.tp = 2, .pp = 2},
                                                      .sequence_parallel = true,
                                                      .dtype = DType::kBFloat16,
                                                      .micro_batch_size = 2},
                                           TestLayout{.mesh = {.dp = 2, .pp = 3}}));

}  // namespace
}  // namespace cairn::testing
