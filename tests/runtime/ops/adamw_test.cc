#include "runtime/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "jacobian_testing.h"
#include "runtime/ops/adamw_kernel.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

struct State {
  State(Device& device, int64_t n)
      : main(RandomTensor(device, {n}, 61)),
        exp_avg(RandomTensor(device, {n}, 62, 0.1)),
        exp_avg_sq(Tensor::Empty({n}, DType::kFloat32, device)),
        gradient(RandomTensor(device, {n}, 63)) {
    for (int64_t i = 0; i < n; ++i) {
      exp_avg_sq.data<float>()[i] = 0.01f * static_cast<float>(i % 7);
    }
  }

  State Narrow(int64_t first, int64_t count) const {
    State part = *this;
    for (Tensor* tensor : {&part.main, &part.exp_avg, &part.exp_avg_sq, &part.gradient}) {
      *tensor = tensor->Narrow(0, first, count);
    }
    return part;
  }
  void Step(const AdamWStep& step) const {
    const DecayRuns all({{main.numel(), true}}, main.device());
    AdamW(main, exp_avg, exp_avg_sq, gradient, all, step);
  }

  Tensor main;
  Tensor exp_avg;
  Tensor exp_avg_sq;
  Tensor gradient;
};

constexpr AdamWStep kStep{.lr = 3e-3f,
                          .beta1 = 0.9f,
                          .beta2 = 0.95f,
                          .epsilon = 1e-8f,
                          .weight_decay = 0.1f,
                          .bias_correction1 = 0.19f,
                          .bias_correction2 = 0.0975f,
                          .gradient_factor = 0.25f};

TEST(AdamWTest, OneStepAgainstFp64) {
  const auto device = NewCpuDevice();
  const State state(*device, 1001);
  const auto p = testing::ToDoubles(state.main);
  const auto m = testing::ToDoubles(state.exp_avg);
  const auto v = testing::ToDoubles(state.exp_avg_sq);
  const auto g = testing::ToDoubles(state.gradient);
  std::vector<double> expected(p.size());
  for (size_t i = 0; i < p.size(); ++i) {
    const double scaled = g[i] * 0.25;
    const double new_m = 0.9 * m[i] + 0.1 * scaled;
    const double new_v = 0.95 * v[i] + 0.05 * scaled * scaled;
    expected[i] =
        p[i] * (1 - 3e-3 * 0.1) - 3e-3 * (new_m / 0.19) / (std::sqrt(new_v / 0.0975) + 1e-8);
  }
  state.Step(kStep);
  testing::ExpectClose(state.main, expected, 1e-6, "main");
  EXPECT_EQ(testing::ToDoubles(state.gradient), g);
}

TEST(AdamWTest, AnySplitGivesTheSameBits) {
  const auto device = NewCpuDevice();
  const int64_t n = 5003;
  const State whole(*device, n);
  whole.Step(kStep);
  for (int64_t piece : {1, 7, 64, 4999}) {
    const State split(*device, n);
    for (int64_t first = 0; first < n; first += piece) {
      split.Narrow(first, std::min(piece, n - first)).Step(kStep);
    }
    EXPECT_EQ(Bits(split.main), Bits(whole.main)) << piece;
    EXPECT_EQ(Bits(split.exp_avg), Bits(whole.exp_avg)) << piece;
    EXPECT_EQ(Bits(split.exp_avg_sq), Bits(whole.exp_avg_sq)) << piece;
  }
}

// What a parameter gets does not depend on what lies beside it, nor on who finds its run: the loops
// of the CPU go run by run, a GPU's threads look up theirs.
TEST(AdamWTest, PartsThatDecayAndOthers) {
  const auto device = NewCpuDevice();
  using Parts = std::vector<DecayRuns::Part>;
  const struct {
    Parts parts;
    int64_t runs;
  } cases[] = {{{}, 0},
               {{{0, true}}, 0},
               {{{5, false}}, 1},
               {{{5, true}, {3, true}}, 1},
               {{{4, false}, {0, true}, {3, false}, {9, true}}, 2},
               {{{1, true}, {1, false}, {1, true}, {700, true}, {17, false}, {64, true}}, 5}};
  for (const auto& [parts, expected_runs] : cases) {
    const DecayRuns runs(parts, *device);
    EXPECT_EQ(runs.runs(), expected_runs);
    const int64_t n = runs.numel() + 6;  // padding stays as it is
    const State together(*device, n);
    const State apart(*device, n);
    AdamW(together.main, together.exp_avg, together.exp_avg_sq, together.gradient, runs, kStep);
    int64_t first = 0;
    for (const DecayRuns::Part& part : parts) {
      AdamWStep step = kStep;
      if (!part.decays) step.weight_decay = 0;
      apart.Narrow(first, part.size).Step(step);
      for (int64_t i = first; i < first + part.size; ++i) {
        const int64_t run = RunOf(runs.ends().data<int64_t>(), runs.runs(), i);
        EXPECT_EQ(RunDecays(run, runs.first_decays()), part.decays) << i;
      }
      first += part.size;
    }
    EXPECT_EQ(first, runs.numel());
    EXPECT_EQ(Bits(together.main), Bits(apart.main));
    EXPECT_EQ(Bits(together.exp_avg), Bits(apart.exp_avg));
    EXPECT_EQ(Bits(together.exp_avg_sq), Bits(apart.exp_avg_sq));
  }
}

TEST(AdamWTest, ZeroGradientOnlyDecays) {
  const auto device = NewCpuDevice();
  const State state(*device, 4);
  for (const Tensor& tensor : {state.exp_avg, state.exp_avg_sq, state.gradient}) {
    std::fill_n(tensor.data<float>(), 4, 0.0f);
  }
  const auto before = state.main.ToHost<float>();
  state.Step(kStep);
  const auto after = state.main.ToHost<float>();
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(after[i], before[i] * (1.0f - 3e-4f));
  }
}

}  // namespace
}  // namespace cairn
