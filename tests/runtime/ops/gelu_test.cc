#include "runtime/ops/gelu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "jacobian_testing.h"
#include "runtime/base/error.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using testing::CheckJacobian;
using testing::RandomTensor;

double ReferenceGelu(double x) {
  const double u = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(u));
}

TEST(GeluTest, Jacobian) {
  const auto device = NewCpuDevice();
  CheckJacobian([](Tape& tape, std::span<const Value> in) { return Gelu(tape, in[0]); },
                {RandomTensor(*device, {7, 13}, 1, 2.0)}, {});
}

TEST(GeluTest, AgainItIsTheSameBitByBit) {
  const auto device = NewCpuDevice();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Tape tape;
    const Value y = Gelu(tape, tape.Input(RandomTensor(*device, {5, 301}, 5, 2.0, 0.0, dtype)));
    EXPECT_EQ(testing::Bits(y.again()), testing::Bits(y.data));
  }
}

TEST(GeluTest, EveryDTypeWithinItsRounding) {
  const auto device = NewCpuDevice();
  const std::pair<DType, double> cases[] = {
      {DType::kFloat32, 1e-6}, {DType::kBFloat16, 4.1e-3}, {DType::kFloat16, 5.1e-4}};
  for (const auto& [dtype, tolerance] : cases) {
    const Tensor x = RandomTensor(*device, {3, 2001}, 2, 3.0, 0.0, dtype);
    Tape tape({.recording = false});
    const Value y = Gelu(tape, Value{x});
    EXPECT_EQ(y.data.dtype(), dtype);
    std::vector<double> expected = testing::ToDoubles(x);
    for (double& e : expected) e = ReferenceGelu(e);
    testing::ExpectClose(y.data, expected, tolerance, DTypeName(dtype));
  }
}

TEST(GeluTest, TailsStaySmallAndSigned) {
  const auto device = NewCpuDevice();
  const std::vector<float> in = {-6.0f, -60.0f, -1e6f, 0.0f, 60.0f, 1e6f};
  const Tensor x = Tensor::FromHost<float>(in, {6}, *device);
  const Tensor y = x.EmptyLike();
  GeluForward(y, x);
  const auto out = y.ToHost<float>();
  // 1 + tanh(u) cancels to nothing here when it is computed as written.
  const double u = std::sqrt(2.0 / std::numbers::pi) * (-6.0 - 0.044715 * 216.0);
  EXPECT_NEAR(out[0] / (-6.0 / (1.0 + std::exp(-2.0 * u))), 1.0, 1e-5);
  EXPECT_EQ(out[1], 0.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[3], 0.0f);
  EXPECT_EQ(out[4], 60.0f);
  EXPECT_EQ(out[5], 1e6f);
}

TEST(GeluTest, ConstantInputIsNotRecorded) {
  const auto device = NewCpuDevice();
  Tape tape;
  EXPECT_FALSE(Gelu(tape, Value{RandomTensor(*device, {4}, 3)}).needs_gradient());
  EXPECT_EQ(tape.num_nodes(), 0U);
}

}  // namespace
}  // namespace cairn
