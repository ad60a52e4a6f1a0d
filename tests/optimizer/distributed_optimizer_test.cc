#include "optimizer/distributed_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/optimizer/optimizer_testing.h"

namespace cairn::testing {
namespace {

constexpr double kRate = 0.01;

std::string LayoutName(const OptimizerLayout& layout) {
  return layout.mesh.ToString() + (layout.shard ? " sharded" : "") +
         (layout.overlap ? "" : " no overlap") + (layout.exact ? " exact " : " ") +
         DTypeName(layout.dtype);
}

std::vector<OptimizerLayout> Layouts() {
  std::vector<OptimizerLayout> layouts;
  for (const MeshShape& mesh : {MeshShape{.dp = 2}, MeshShape{.dp = 3}, MeshShape{.tp = 2},
                                MeshShape{.pp = 2}, MeshShape{.tp = 2, .dp = 2, .pp = 2}}) {
    for (const bool shard : {false, true}) layouts.push_back({.mesh = mesh, .shard = shard});
  }
  layouts.push_back({.mesh = {.dp = 3}, .shard = true, .overlap = false});
  return layouts;
}

TEST(DistributedOptimizerTest, NormCountsEveryElementOnce) {
  // The sum over the model's elements, by hand.
  double expected = 0;
  const auto reference = RunOptimizer({.adamw = {.beta1 = 0, .clip_grad = 0}}, [](auto& rank) {
    rank.SetGradients(1);
    rank.optimizer().Step(kRate, 1);
  });
  for (const char* name : {"embedding", "position", "first.weight", "first.bias", "second.weight",
                           "second.bias", "norm.weight"}) {
    // Without momentum the first moment is the gradient.
    for (const double g : reference->Of(std::string(name) + "/exp_avg")) expected += g * g;
  }
  expected = std::sqrt(expected);
  ASSERT_GT(expected, 1);

  std::vector<OptimizerLayout> layouts = Layouts();
  layouts.push_back({});
  double exact_norm = 0;
  for (OptimizerLayout& layout : layouts) {
    for (const bool exact : {false, true}) {
      layout.exact = exact;
      RunOptimizer(layout, [&](OptimizerRank& rank) {
        rank.SetGradients(1, 1, 1024);
        const StepResult result = rank.optimizer().Step(kRate, 1024);
        EXPECT_FALSE(result.skipped);
        EXPECT_NEAR(result.grad_norm, expected, 1e-12 * expected) << LayoutName(layout);
        if (!exact || rank.mesh().world().rank() != 0) return;
        if (exact_norm == 0) exact_norm = result.grad_norm;
        EXPECT_EQ(result.grad_norm, exact_norm) << LayoutName(layout);
      });
    }
  }
}

TEST(DistributedOptimizerTest, NoLayoutChangesABit) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const bool exact : {false, true}) {
      // The plain norm is summed in another order by another layout, the exact one is not.
      const AdamWOptions adamw = {.clip_grad = exact ? 0.5 : 0.0};
      const auto run = [&](OptimizerLayout layout) {
        layout.exact = exact;
        layout.dtype = dtype;
        layout.adamw = adamw;
        SCOPED_TRACE(LayoutName(layout));
        return RunOptimizer(layout, [](OptimizerRank& rank) {
          for (uint64_t step = 0; step < 4; ++step) {
            rank.SetGradients(step, 1, 256);
            rank.optimizer().Step(kRate, 256);
          }
          EXPECT_EQ(rank.optimizer().steps(), 4);
        });
      };
      const auto expected = run({});
      for (const OptimizerLayout& layout : Layouts()) {
        SCOPED_TRACE(LayoutName(layout));
        run(layout)->ExpectEqual(*expected);
      }
    }
  }
}

TEST(DistributedOptimizerTest, FirstStepIsTheClosedForm) {
  const AdamWOptions adamw = {
      .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .clip_grad = 0.25};
  const auto before = RunOptimizer({.adamw = adamw}, [](OptimizerRank&) {});
  double norm = 0;
  const auto after = RunOptimizer({.adamw = adamw}, [&](OptimizerRank& rank) {
    rank.SetGradients(1, 1, 64);
    norm = rank.optimizer().Step(kRate, 64).grad_norm;
  });
  const auto unclipped = RunOptimizer({.adamw = {.beta1 = 0, .clip_grad = 0}}, [](auto& rank) {
    rank.SetGradients(1);
    rank.optimizer().Step(kRate, 1);
  });
  const double factor = 0.25 / (norm + 1e-6);
  ASSERT_LT(factor, 1);
  const std::vector<float>& gradient = unclipped->Of("second.weight/exp_avg");
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double g = gradient[i] * factor;
    EXPECT_NEAR(after->Of("second.weight/exp_avg")[i], 0.1 * g, 1e-6 * std::abs(g));
    EXPECT_NEAR(after->Of("second.weight/exp_avg_sq")[i], 0.05 * g * g, 1e-6 * g * g);
    // The moments' corrections undo the betas: a step of the learning rate against the sign.
    const double decayed = before->Of("second.weight/weight")[i] * (1 - kRate * 0.1);
    EXPECT_NEAR(after->Of("second.weight/weight")[i], decayed - kRate * g / (std::abs(g) + 1e-8),
                1e-6);
  }
}

TEST(DistributedOptimizerTest, GradientsBelowTheLimitAreNotClipped) {
  const auto run = [](double clip_grad) {
    return RunOptimizer({.adamw = {.clip_grad = clip_grad}}, [](OptimizerRank& rank) {
      rank.SetGradients(1, 1e-3);
      EXPECT_LT(rank.optimizer().Step(kRate, 1).grad_norm, 0.1);
    });
  };
  run(0.1)->ExpectEqual(*run(0));
}

TEST(DistributedOptimizerTest, DecayFollowsTheAttributeNotTheName) {
  const AdamWOptions adamw = {.weight_decay = 0.5};
  const auto before = RunOptimizer({.adamw = adamw}, [](OptimizerRank&) {});
  const auto after = RunOptimizer({.adamw = adamw}, [](OptimizerRank& rank) {
    rank.SetGradients(1, 0);
    rank.optimizer().Step(0.5, 1);
  });
  const auto expect_factor = [&](const std::string& name, float factor) {
    const std::vector<float>& old = before->Of(name + "/weight");
    for (size_t i = 0; i < old.size(); ++i) {
      EXPECT_FLOAT_EQ(after->Of(name + "/weight")[i], factor * old[i]) << name;
    }
  };
  for (const char* name : {"embedding", "position", "first.bias", "second.weight"}) {
    expect_factor(name, 0.75F);
  }
  for (const char* name : {"first.weight", "second.bias", "norm.weight"}) expect_factor(name, 1);
}

TEST(DistributedOptimizerTest, AStepWithoutFiniteGradientsChangesNothing) {
  const auto step_well = [](OptimizerRank& rank, uint64_t step) {
    rank.SetGradients(step);
    EXPECT_FALSE(rank.optimizer().Step(kRate, 1).skipped);
  };
  std::vector<OptimizerLayout> layouts = Layouts();
  layouts.push_back({});
  layouts.push_back({.dtype = DType::kFloat16});
  for (OptimizerLayout& layout : layouts) {
    for (const bool exact : {false, true}) {
      layout.exact = exact;
      layout.adamw.clip_grad = exact ? 1 : 0;
      SCOPED_TRACE(LayoutName(layout));
      const auto expected = RunOptimizer(layout, [&](OptimizerRank& rank) {
        step_well(rank, 1);
        step_well(rank, 2);
      });
      for (const float bad :
           {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
            std::numeric_limits<float>::quiet_NaN()}) {
        const auto actual = RunOptimizer(layout, [&](OptimizerRank& rank) {
          step_well(rank, 1);
          rank.SetGradients(3);
          // Where one rank alone has the element, the others learn of it.
          const MeshCoordinate& at = rank.mesh().coordinate();
          const bool has_it = at.tp == layout.mesh.tp - 1 && at.pp == layout.mesh.pp - 1 &&
                              (!layout.shard || at.dp == layout.mesh.dp - 1);
          if (has_it) rank.SpoilGradient(bad);
          EXPECT_TRUE(rank.optimizer().Step(kRate, 1).skipped);
          EXPECT_EQ(rank.optimizer().steps(), 1);
          step_well(rank, 2);
        });
        actual->ExpectEqual(*expected);
      }
    }
  }
}

}  // namespace
}  // namespace cairn::testing
