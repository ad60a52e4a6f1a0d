#include "runtime/ops/cross_entropy.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "jacobian_testing.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class CrossEntropyTest : public ::testing::Test {
 protected:
  struct Result {
    std::vector<float> loss;
    std::vector<double> gradient;  // [T, V]
  };

  // The loss and its gradient with the columns [0, V) dealt out to ranks of `columns` each, the
  // last of which are padding.
  Result Run(const Tensor& logits, const std::vector<int32_t>& targets, int64_t columns,
             float scale = 1.0f) {
    const int64_t tokens = logits.dim(0);
    const int64_t vocabulary = logits.dim(1);
    const int64_t ranks = (vocabulary + columns - 1) / columns;
    const Tensor ids = Tensor::FromHost<int32_t>(targets, {tokens}, *device_);
    const Tensor parts = Tensor::Empty({ranks, tokens, 3}, DType::kFloat32, *device_);
    const Tensor loss = Tensor::Empty({tokens}, DType::kFloat32, *device_);
    const Tensor logsumexp = loss.EmptyLike();
    std::vector<Tensor> shards;
    for (int64_t r = 0; r < ranks; ++r) {
      const int64_t valid = std::min(columns, vocabulary - r * columns);
      // Padding holds numbers that would ruin everything.
      shards.push_back(Tensor::Empty({tokens, columns}, logits.dtype(), *device_));
      Fill(shards[r], 1e4);
      CopyTo(shards[r].Narrow(1, 0, valid), logits.Narrow(1, r * columns, valid));
      CrossEntropyStats(parts.Select(r), shards[r], ids, r * columns, valid);
    }
    CrossEntropyMerge(loss, logsumexp, parts, ids);
    Result result{loss.ToHost<float>(), std::vector<double>(tokens * vocabulary)};
    for (int64_t r = 0; r < ranks; ++r) {
      const int64_t valid = std::min(columns, vocabulary - r * columns);
      const Tensor scales = logsumexp.EmptyLike();
      Fill(scales, scale);
      CrossEntropyGradient(shards[r], ids, logsumexp, r * columns, valid, scales);
      const std::vector<double> gradient = testing::ToDoubles(shards[r]);
      for (int64_t i = 0; i < tokens * columns; ++i) {
        if (i % columns < valid) {
          result.gradient[i / columns * vocabulary + r * columns + i % columns] = gradient[i];
        } else {
          EXPECT_EQ(gradient[i], 0.0) << "padding";
        }
      }
    }
    return result;
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_F(CrossEntropyTest, EveryDTypeAndSplitAgainstFp64) {
  const int64_t tokens = 5;
  const int64_t vocabulary = 131;
  const std::vector<int32_t> targets = {0, 130, 70, -1, 65};
  const std::pair<DType, double> cases[] = {
      {DType::kFloat32, 3e-6}, {DType::kBFloat16, 4.1e-3}, {DType::kFloat16, 5.1e-4}};
  for (const auto& [dtype, tolerance] : cases) {
    const Tensor logits = RandomTensor(*device_, {tokens, vocabulary}, 51, 3.0, 0.0, dtype);
    const std::vector<double> l = testing::ToDoubles(logits);
    std::vector<double> losses(tokens);
    std::vector<double> expected(l.size());
    for (int64_t t = 0; t < tokens; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < vocabulary; ++c) sum += std::exp(l[t * vocabulary + c]);
      if (targets[t] < 0) continue;
      losses[t] = std::log(sum) - l[t * vocabulary + targets[t]];
      for (int64_t c = 0; c < vocabulary; ++c) {
        const double p = std::exp(l[t * vocabulary + c]) / sum;
        expected[t * vocabulary + c] = 0.5 * (p - (c == targets[t] ? 1.0 : 0.0));
      }
    }
    for (int64_t columns : {131, 66, 44, 140, 131 / 2}) {
      SCOPED_TRACE(fmt::format("{}, {} columns a rank", DTypeName(dtype), columns));
      const Result result = Run(logits, targets, columns, 0.5f);
      for (int64_t t = 0; t < tokens; ++t) {
        EXPECT_NEAR(result.loss[t], losses[t], 2e-6 * (1 + losses[t]));
      }
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(result.gradient[i], expected[i], tolerance * std::abs(expected[i]) + 1e-7) << i;
      }
    }
  }
}

TEST_F(CrossEntropyTest, GradientIsTheDerivativeOfTheLoss) {
  const Tensor logits = RandomTensor(*device_, {3, 11}, 52);
  const std::vector<int32_t> targets = {4, 10, 0};
  const Result result = Run(logits, targets, 4);
  auto* elements = logits.data<float>();
  const auto total = [&] {
    const std::vector<float> loss = Run(logits, targets, 4).loss;
    return double{loss[0]} + loss[1] + loss[2];
  };
  for (int64_t i = 0; i < logits.numel(); ++i) {
    const float original = elements[i];
    constexpr double kStep = 0x1p-5;
    const auto at = [&](double steps) {
      elements[i] = original + static_cast<float>(steps * kStep);
      return total();
    };
    const double numeric = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kStep);
    elements[i] = original;
    EXPECT_NEAR(result.gradient[i], numeric, 2e-5) << i;
  }
}

TEST_F(CrossEntropyTest, RankWithoutVocabulary) {
  const std::vector<int32_t> ids = {1, -1};
  const Tensor targets = Tensor::FromHost<int32_t>(ids, {2}, *device_);
  const Tensor logits = RandomTensor(*device_, {2, 4}, 53);
  const Tensor stats = Tensor::Empty({2, 3}, DType::kFloat32, *device_);
  CrossEntropyStats(stats, logits, targets, 8, 0);
  EXPECT_EQ(stats.ToHost<float>(), (std::vector<float>{-kInfinity, 0, 0, -kInfinity, 0, 0}));
}

TEST_F(CrossEntropyTest, LargeLogitsNeitherOverflowNorCancel) {
  const std::vector<float> rows = {3e4f, 3e4f, -3e4f, -3e4f, -3e4f, 3e4f};
  const Tensor logits = Tensor::FromHost<float>(rows, {2, 3}, *device_);
  for (int64_t columns : {3, 1}) {
    const Result result = Run(logits, {0, 2}, columns);
    EXPECT_NEAR(result.loss[0], std::log(2.0), 4e-3);  // the spacing of fp32 at 3e4 is 2e-3
    EXPECT_EQ(result.loss[1], 0.0f);
  }
}

TEST_F(CrossEntropyTest, NanAndInfinityReachTheLoss) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    for (int64_t place = 0; place < 20; ++place) {
      const Tensor logits = RandomTensor(*device_, {1, 20}, 54);
      logits.data<float>()[place] = bad;
      EXPECT_FALSE(std::isfinite(Run(logits, {7}, 6).loss[0])) << bad << " at " << place;
    }
  }
  // -infinity is a masked token.
  const Tensor logits = RandomTensor(*device_, {1, 20}, 55);
  logits.data<float>()[3] = -kInfinity;
  for (int64_t columns : {1, 6, 20}) {
    const Result result = Run(logits, {7}, columns);
    EXPECT_TRUE(std::isfinite(result.loss[0]));
    EXPECT_EQ(result.gradient[3], 0.0);
  }
}

TEST_F(CrossEntropyTest, ATokenDoesNotDependOnItsNeighbours) {
  const Tensor logits = RandomTensor(*device_, {9, 301}, 56, 2.0);
  const std::vector<int32_t> targets = {1, 2, 3, 4, 5, 300, 299, 0, 7};
  const Result whole = Run(logits, targets, 151);
  for (int64_t t = 0; t < 9; ++t) {
    const Result one = Run(ContiguousCopy(logits.Narrow(0, t, 1)), {targets[t]}, 151);
    EXPECT_EQ(one.loss[0], whole.loss[t]);
    EXPECT_TRUE(
        std::equal(one.gradient.begin(), one.gradient.end(), whole.gradient.begin() + t * 301));
  }
}

}  // namespace
}  // namespace cairn
