#include "runtime/ops/norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "jacobian_testing.h"
#include "runtime/ops/norm_kernel.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

struct Norm {
  Norm(Device& device, int64_t h, DType dtype = DType::kFloat32)
      : gamma{RandomTensor(device, {h}, 11, 0.3, 1.0, dtype)},
        beta{RandomTensor(device, {h}, 12, 0.5, 0.0, dtype)} {}
  Weight gamma;
  Weight beta;
};

TEST(LayerNormTest, Jacobian) {
  const auto device = NewCpuDevice();
  for (int64_t h : {1, 3, 33}) {
    Norm norm(*device, h);
    testing::CheckJacobian(
        [&](Tape& tape, std::span<const Value> in) {
          // A large epsilon keeps h = 1 and the finite differences well conditioned.
          return LayerNorm(tape, in[0], norm.gamma, norm.beta, 0.1);
        },
        {RandomTensor(*device, {5, h}, 13)}, {&norm.gamma, &norm.beta});
  }
}

TEST(LayerNormTest, EveryDTypeAgainstFp64) {
  const auto device = NewCpuDevice();
  const int64_t h = 777;
  const std::pair<DType, double> cases[] = {
      {DType::kFloat32, 2e-6}, {DType::kBFloat16, 4.1e-3}, {DType::kFloat16, 5.1e-4}};
  for (const auto& [dtype, tolerance] : cases) {
    Norm norm(*device, h, dtype);
    // A mean far from zero: a variance taken as E[x^2] - E[x]^2 would lose its digits.
    const Tensor x = RandomTensor(*device, {4, h}, 14, 1.0, 100.0, dtype);
    Tape tape({.recording = false});
    const Value y = LayerNorm(tape, Value{x}, norm.gamma, norm.beta, 1e-5);
    std::vector<double> expected = testing::ToDoubles(x);
    const std::vector<double> gamma = testing::ToDoubles(norm.gamma.value);
    const std::vector<double> beta = testing::ToDoubles(norm.beta.value);
    for (int64_t row = 0; row < 4; ++row) {
      double* e = expected.data() + row * h;
      double mean = 0;
      double variance = 0;
      for (int64_t i = 0; i < h; ++i) mean += e[i] / static_cast<double>(h);
      for (int64_t i = 0; i < h; ++i) {
        variance += (e[i] - mean) * (e[i] - mean) / static_cast<double>(h);
      }
      for (int64_t i = 0; i < h; ++i) {
        e[i] = (e[i] - mean) / std::sqrt(variance + 1e-5) * gamma[i] + beta[i];
      }
    }
    testing::ExpectClose(y.data, expected, dtype == DType::kFloat32 ? 2e-5 : tolerance,
                         DTypeName(dtype));
  }
}

TEST(LayerNormTest, ConstantRowGivesBeta) {
  const auto device = NewCpuDevice();
  Norm norm(*device, 20);
  const std::vector<float> same(20, 3.25f);
  Tape tape({.recording = false});
  const Value y = LayerNorm(tape, Value{Tensor::FromHost<float>(same, {1, 20}, *device)},
                            norm.gamma, norm.beta, 1e-5);
  EXPECT_EQ(y.data.ToHost<float>(), norm.beta.value.ToHost<float>());
}

// The op runs the widest instruction set of the machine, this file the plainest.
TEST(LayerNormTest, NoInstructionSetChangesABit) {
  const auto device = NewCpuDevice();
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const int64_t h = 1003;
    Norm norm(*device, h, dtype);
    const Tensor x = RandomTensor(*device, {1, h}, 15, 2.0, 1.0, dtype);
    const Tensor y = x.EmptyLike();
    const Tensor mean = Tensor::Empty({1}, DType::kFloat32, *device);
    const Tensor rstd = mean.EmptyLike();
    LayerNormForward(y, mean, rstd, x, norm.gamma.value, norm.beta.value, 1e-5);
    const Tensor plain = x.EmptyLike();
    DispatchFloating("test", dtype, [&](auto zero) {
      using T = decltype(zero);
      const RowMoments moments =
          LayerNormRow(CpuTeam(), h, plain.data<T>(), x.data<T>(), norm.gamma.value.data<T>(),
                       norm.beta.value.data<T>(), 1e-5f);
      EXPECT_EQ(moments.mean, mean.ToHost<float>()[0]);
      EXPECT_EQ(moments.rstd, rstd.ToHost<float>()[0]);
    });
    EXPECT_EQ(Bits(y), Bits(plain));
  }
}

TEST(LayerNormTest, AgainItIsTheSameBitByBit) {
  const auto device = NewCpuDevice();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Norm norm(*device, 96, dtype);
    Tape tape;
    const Value x = tape.Input(RandomTensor(*device, {37, 96}, 18, 1.0, 3.0, dtype));
    const Value y = LayerNorm(tape, x, norm.gamma, norm.beta, 1e-5);
    const Tensor again = y.again();
    EXPECT_NE(again.raw(), y.data.raw());
    EXPECT_EQ(Bits(again), Bits(y.data));
  }
}

TEST(LayerNormTest, FrozenWeightsAndConstantInput) {
  const auto device = NewCpuDevice();
  Norm norm(*device, 8);
  Tape tape;
  const Tensor x = RandomTensor(*device, {2, 8}, 16);
  EXPECT_FALSE(LayerNorm(tape, Value{x}, norm.gamma, norm.beta, 1e-5).needs_gradient());

  // gamma alone wants a gradient: no input gradient, no beta.
  MainGrad grad(Tensor::Zeros({8}, DType::kFloat32, *device));
  norm.gamma.grad = &grad;
  bool complete = false;
  grad.set_on_complete([&] { complete = true; });
  const Value y = LayerNorm(tape, Value{x}, norm.gamma, norm.beta, 1e-5);
  tape.BackwardInput(y, RandomTensor(*device, {2, 8}, 17));
  EXPECT_FALSE(complete);
  tape.BackwardWeight();
  EXPECT_TRUE(complete);
  EXPECT_NE(grad.sum().ToHost<float>()[0], 0.0f);
}

}  // namespace
}  // namespace cairn
