#include "runtime/ops/dropout.h"

#include <gtest/gtest.h>

#include <cmath>

#include "jacobian_testing.h"
#include "runtime/ops/dropout_kernel.h"
#include "runtime/ops/dropout_words.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

constexpr RandomKey kKey{.seed = 99, .step = 4, .site = 17};

TEST(DropoutTest, JacobianWithAndWithoutEachPart) {
  const auto device = NewCpuDevice();
  for (double p : {0.0, 0.4}) {
    for (int parts = 0; parts < 4; ++parts) {
      Weight bias{RandomTensor(*device, {13}, 21)};
      const bool with_bias = (parts & 1) != 0;
      const bool with_residual = (parts & 2) != 0;
      std::vector<Tensor> inputs = {RandomTensor(*device, {6, 13}, 22)};
      if (with_residual) inputs.push_back(RandomTensor(*device, {6, 13}, 23));
      std::vector<Weight*> weights;
      if (with_bias) weights.push_back(&bias);
      testing::CheckJacobian(
          [&](Tape& tape, std::span<const Value> in) {
            return BiasDropoutAdd(tape, in[0], with_bias ? &bias : nullptr,
                                  with_residual ? &in[1] : nullptr,
                                  {.p = p, .key = kKey, .first_index = 5});
          },
          inputs, weights);
    }
  }
}

TEST(DropoutTest, NeighboursShareABlockOfWords) {
  for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{6}, (uint64_t{1} << 34) + 3}) {
    const NeighbourWords words(kKey, first, true);
    // In order, as a thread asks; then anywhere.
    for (const int64_t i : {0, 1, 2, 3, 4, 5, 6, 7, 8, 64, 65, 66, 67, 3, 2, 1000003}) {
      EXPECT_EQ(words(i), RandomWord(kKey, first + static_cast<uint64_t>(i))) << first << " " << i;
    }
    EXPECT_EQ(NeighbourWords(kKey, first, false)(5), 0U);
  }
}

TEST(DropoutTest, ElementsAreThoseOfTheGlobalIndex) {
  const auto device = NewCpuDevice();
  const int64_t h = 2500;  // longer than one run of generated words
  for (int64_t first_index : {int64_t{0}, int64_t{3}, int64_t{1} << 40}) {
    const DropoutSpec spec{.p = 0.3, .key = kKey, .first_index = first_index};
    const Tensor x = RandomTensor(*device, {3, h}, 24);
    const Tensor y = x.EmptyLike();
    BiasDropoutAddForward(y, x, nullptr, nullptr, spec);
    const auto in = x.ToHost<float>();
    const auto out = y.ToHost<float>();
    const auto scale = static_cast<float>(1.0 / 0.7);
    for (int64_t i = 0; i < 3 * h; ++i) {
      const bool kept =
          RandomWord(kKey, static_cast<uint64_t>(first_index + i)) >= DropThreshold(0.3);
      ASSERT_EQ(out[i], kept ? in[i] * scale : 0.0f) << i;
    }
  }
}

TEST(DropoutTest, RateAndRandomWords) {
  cpu::RandomWords words;
  int64_t dropped = 0;
  const int64_t n = 1000;
  for (uint64_t first = 1; first < 200000; first += n) {
    const uint32_t* run = words.Generate(kKey, first, n);
    for (int64_t i = 0; i < n; ++i) dropped += run[i] < DropThreshold(0.1) ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(dropped), 20000.0, 5 * std::sqrt(200000 * 0.1 * 0.9));
  for (int64_t n : {int64_t{1}, int64_t{5}, cpu::RandomWords::kCapacity}) {
    for (uint64_t first : {0ULL, 1ULL, 2ULL, 3ULL, 0xfffffffeULL * 4 + 3}) {
      const uint32_t* run = words.Generate(kKey, first, n);
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(run[i], RandomWord(kKey, first + i));
    }
  }
}

// Half of the rows, computed alone with their own first index, get the bits they get in the whole.
TEST(DropoutTest, SplitsAgree) {
  const auto device = NewCpuDevice();
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const Tensor x = RandomTensor(*device, {8, 51}, 25, 1, 0, dtype);
    const Tensor residual = RandomTensor(*device, {8, 51}, 26, 1, 0, dtype);
    const Tensor bias = RandomTensor(*device, {51}, 27, 1, 0, dtype);
    DropoutSpec spec{.p = 0.2, .key = kKey, .first_index = 1000};
    const Tensor whole = x.EmptyLike();
    BiasDropoutAddForward(whole, x, &bias, &residual, spec);
    const Tensor half = x.Narrow(0, 3, 5).EmptyLike();
    const Tensor half_residual = residual.Narrow(0, 3, 5);
    spec.first_index += 3 * 51;
    BiasDropoutAddForward(half, x.Narrow(0, 3, 5), &bias, &half_residual, spec);
    EXPECT_EQ(Bits(half), Bits(whole.Narrow(0, 3, 5))) << DTypeName(dtype);
  }
}

TEST(DropoutTest, LowPrecisionRoundsOnce) {
  const auto device = NewCpuDevice();
  const Tensor x = RandomTensor(*device, {4, 100}, 28, 1, 0, DType::kBFloat16);
  const Tensor residual = RandomTensor(*device, {4, 100}, 29, 1, 0, DType::kBFloat16);
  const Tensor bias = RandomTensor(*device, {100}, 30, 1, 0, DType::kBFloat16);
  const Tensor y = x.EmptyLike();
  BiasDropoutAddForward(y, x, &bias, &residual, {});
  const auto a = testing::ToDoubles(x);
  const auto r = testing::ToDoubles(residual);
  const auto b = testing::ToDoubles(bias);
  const auto out = testing::ToDoubles(y);
  for (size_t i = 0; i < out.size(); ++i) {
    const float sum =
        static_cast<float>(a[i]) + static_cast<float>(b[i % 100]) + static_cast<float>(r[i]);
    ASSERT_EQ(out[i], static_cast<double>(static_cast<float>(BFloat16(sum)))) << i;
  }
}

TEST(DropoutDeathTest, RefusesAProbabilityOfOne) {
  const auto device = NewCpuDevice();
  const Tensor x = RandomTensor(*device, {1, 4}, 31);
  EXPECT_DEATH(BiasDropoutAddForward(x.EmptyLike(), x, nullptr, nullptr, {.p = 1.0}), "spec.p");
}

}  // namespace
}  // namespace cairn
