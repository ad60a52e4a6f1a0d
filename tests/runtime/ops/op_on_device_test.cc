// Every op on a device against the CPU's result. The CPU itself stands in for a GPU that is not
// there: then it is the cases and the comparison that are tested.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <tuple>

#include "op_cases_testing.h"
#include "tests/runtime/device/device_testing.h"

namespace cairn::testing {
namespace {

void ForEachCase(const std::string& op, const std::function<void(const OpCase&)>& check) {
  int checked = 0;
  for (const OpCase& one : OpCases()) {
    if (one.op != op) continue;
    SCOPED_TRACE(one.shape);
    check(one);
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

const auto kOps =
    ::testing::Values("elementwise", "copies", "layer_norm", "gelu", "dropout", "embedding",
                      "cross_entropy", "adamw", "sums", "matmul", "linear_fused", "attention");
const auto kDTypes = ::testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16);

class OpOnDeviceTest
    : public DeviceFixture,
      public ::testing::WithParamInterface<std::tuple<DeviceKind, DType, std::string>> {
 protected:
  void SetUp() override { Use(std::get<0>(GetParam())); }
};

TEST_P(OpOnDeviceTest, EqualsTheCpu) {
  const DType dtype = std::get<1>(GetParam());
  ForEachCase(std::get<2>(GetParam()), [&](const OpCase& one) {
    const std::unique_ptr<Device> cpu = NewCpuDevice();
    OpRun expected(*cpu, dtype);
    one.run(expected);
    OpRun actual(*device_, dtype);
    one.run(actual);
    ASSERT_EQ(actual.outputs().size(), expected.outputs().size());
    for (size_t i = 0; i < expected.outputs().size(); ++i) {
      EXPECT_EQ(Difference(expected.outputs()[i], actual.outputs()[i]), "");
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ops, OpOnDeviceTest, ::testing::Combine(EachDeviceKind(), kDTypes, kOps),
                         [](const auto& info) {
                           return fmt::format("{}_{}_{}", DeviceKindName(std::get<0>(info.param)),
                                              DTypeName(std::get<1>(info.param)),
                                              std::get<2>(info.param));
                         });

// The comparison of each result of each case says no to one wrong element, and to one that was
// never written.
class OpComparisonTest : public ::testing::TestWithParam<std::tuple<DType, std::string>> {};

TEST_P(OpComparisonTest, FindsAWrongElement) {
  const std::unique_ptr<Device> cpu = NewCpuDevice();
  ForEachCase(std::get<1>(GetParam()), [&](const OpCase& one) {
    OpRun run(*cpu, std::get<0>(GetParam()));
    one.run(run);
    for (const OpOutput& output : run.outputs()) {
      const auto with = [&](auto&& change) {
        OpOutput other = output;
        other.tensor = OnDevice(output.tensor, *cpu);
        const size_t size = DTypeSize(output.tensor.dtype());
        change(static_cast<unsigned char*>(other.tensor.raw()) +
                   other.tensor.bytes() / 2 / size * size,
               size);
        return Difference(output, other);
      };
      EXPECT_EQ(with([](unsigned char*, size_t) {}), "");
      EXPECT_NE(with([](unsigned char* at, size_t size) { std::memset(at, 0xff, size); }), "")
          << output.what << " not written";
      // Far off: low bits of the exponent are turned.
      EXPECT_NE(with([](unsigned char* at, size_t size) { at[size - 1] ^= 0x7c; }), "")
          << output.what << " wrong";
      if (output.tolerance > 0) continue;
      EXPECT_NE(with([](unsigned char* at, size_t) { at[0] ^= 1; }), "")
          << output.what << " wrong by a bit";
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ops, OpComparisonTest, ::testing::Combine(kDTypes, kOps),
                         [](const auto& info) {
                           return fmt::format("{}_{}", DTypeName(std::get<0>(info.param)),
                                              std::get<1>(info.param));
                         });

TEST(DifferenceTest, StandsAtTheTolerance) {
  const std::unique_ptr<Device> cpu = NewCpuDevice();
  const std::vector<float> ones(64, 1.0f);
  for (const Match match : {Match::kRounding, Match::kSum, Match::kAttention}) {
    const double tolerance = Tolerance(match, DType::kFloat32);
    std::vector<float> near = ones;
    std::vector<float> far = ones;
    near[63] += static_cast<float>(1.5 * tolerance);  // the element and the rms are both 1
    far[63] += static_cast<float>(2.5 * tolerance);
    const auto output = [&](const std::vector<float>& numbers) {
      return OpOutput{"x", Tensor::FromHost<float>(numbers, {64}, *cpu), tolerance};
    };
    EXPECT_EQ(Difference(output(ones), output(near)), "");
    EXPECT_NE(Difference(output(ones), output(far)), "");
  }
}

}  // namespace
}  // namespace cairn::testing
