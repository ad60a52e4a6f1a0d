// Plans of cuDNN's attention for described GPUs: the real library checks each graph, chooses an
// engine and compiles its kernel, with no GPU at hand. Nothing is run.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <memory>
#include <ostream>
#include <string>

#include "runtime/base/error.h"
#include "runtime/ops/attention_plan_cuda.h"

namespace cairn::cuda {
namespace {

struct Gpu {
  const char* name;
  int compute_capability;  // times 100
  int multiprocessors;
  int shared_bytes;  // of one block that asks for them
};
constexpr Gpu kA100 = {"NVIDIA A100-SXM4-80GB", 800, 108, 166912};
constexpr Gpu kH100 = {"NVIDIA H100 80GB HBM3", 900, 132, 232448};
constexpr Gpu kB200 = {"NVIDIA B200", 1000, 148, 232448};

// The names of a GPU's properties are cuDNN's.
std::string Describe(const Gpu& gpu) {
  return fmt::format(
      R"({{"deviceVer": {}, "driverVer": 13000, "cudaDeviceId": 0, "totalGlobalMem": 85899345920,
      "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
      "regsPerBlock": 65536, "multiProcessorCount": {}, "warpSize": 32,
      "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": {},
      "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
      "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0,
      "supportCoopLaunch": 1, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000,
      "l2CacheSize": 52428800, "deviceName": "{}"}})",
      gpu.compute_capability, gpu.multiprocessors, gpu.shared_bytes, gpu.name);
}

struct PlanCase {
  Gpu gpu;
  int64_t heads;
  int64_t groups;
  int64_t head_dim;
  int64_t seq_length;
  DType dtype;
  bool deterministic;
  double dropout = 0;

  CudnnAttention Attention() const {
    return {{.samples = 4,
             .seq_length = seq_length,
             .heads = heads,
             .groups = groups,
             .head_dim = head_dim,
             .dropout = dropout,
             .deterministic = deterministic},
            dtype};
  }
  friend std::ostream& operator<<(std::ostream& out, const PlanCase& c) {
    return out << c.gpu.name << ": " << c.Attention().ToString();
  }
};

class AttentionPlanTest : public ::testing::TestWithParam<PlanCase> {
 protected:
  static void SetUpTestSuite() {
    try {
      cudnn = std::make_unique<Cudnn>();
    } catch (const Error& error) {
      why_not = error.what();
    }
  }
  void SetUp() override {
    if (cudnn == nullptr) GTEST_SKIP() << why_not;
  }

  static AttentionPlan Plan(const Gpu& gpu, const CudnnAttention& attention, AttentionPass pass) {
    const std::string what = gpu.name;
    return {*cudnn, CudnnDeviceOf(*cudnn, Describe(gpu), what), attention, pass};
  }

  // As far as a call goes without a GPU: the tensors are taken, the lack of a handle is not.
  static void ExpectRefusedWhenRun(AttentionPlan& plan, double dropout) {
    std::array<std::byte, 1024> memory{};
    std::byte* const some = memory.data();
    try {
      plan.Run(nullptr, {some, some, some, some, some}, some, {dropout, some, [](int64_t) {}});
      FAIL() << "ran without a handle";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("cudnnBackendExecute"));
    }
  }

  static std::unique_ptr<const Cudnn> cudnn;
  static std::string why_not;
};
std::unique_ptr<const Cudnn> AttentionPlanTest::cudnn;
std::string AttentionPlanTest::why_not;

TEST_P(AttentionPlanTest, BothPassesCompile) {
  const PlanCase& c = GetParam();
  const CudnnAttention attention = c.Attention();
  const int64_t rows = attention.batch * attention.heads * attention.seq_length;
  const int64_t rows_bytes = rows * attention.head_dim * 4;
  AttentionPlan forward = Plan(c.gpu, attention, AttentionPass::kForward);
  EXPECT_LE(forward.workspace_bytes(), rows_bytes);
  ExpectRefusedWhenRun(forward, c.dropout);
  AttentionPlan backward = Plan(c.gpu, attention, AttentionPass::kBackward);
  ExpectRefusedWhenRun(backward, c.dropout);
  const int64_t bytes = backward.workspace_bytes();
  if (attention.deterministic) {  // keeps scores: what WhyNotCudnn bounds
    EXPECT_GE(bytes, rows * attention.seq_length * 2);
    EXPECT_LE(bytes, rows * (attention.seq_length + 256) * 2 + 4 * rows_bytes);
  } else {  // linear in the sequence: sums of dq, and of dk and dv for each query head
    EXPECT_GE(bytes, rows_bytes);
    EXPECT_LE(bytes, 4 * rows_bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Gpus, AttentionPlanTest,
    ::testing::Values(PlanCase{kA100, 8, 8, 64, 2048, DType::kBFloat16, false},
                      PlanCase{kA100, 8, 2, 96, 1001, DType::kFloat16, false},
                      PlanCase{kA100, 8, 8, 128, 2048, DType::kBFloat16, true},
                      PlanCase{kH100, 8, 8, 128, 2048, DType::kBFloat16, false},
                      PlanCase{kH100, 8, 8, 96, 1001, DType::kFloat16, false},
                      PlanCase{kH100, 8, 2, 128, 2048, DType::kBFloat16, false},
                      PlanCase{kH100, 8, 1, 64, 777, DType::kBFloat16, false},
                      PlanCase{kH100, 8, 2, 64, 2048, DType::kBFloat16, true},
                      PlanCase{kH100, 1, 1, 8, 2, DType::kBFloat16, false},
                      PlanCase{kA100, 8, 8, 64, 1024, DType::kFloat16, false, 0.1},
                      PlanCase{kH100, 8, 8, 128, 2048, DType::kBFloat16, false, 0.1},
                      PlanCase{kH100, 8, 2, 96, 1001, DType::kFloat16, false, 0.1},
                      PlanCase{kH100, 8, 1, 64, 777, DType::kBFloat16, true, 0.1},
                      PlanCase{kB200, 8, 8, 64, 2048, DType::kBFloat16, false, 0.1},
                      PlanCase{kB200, 8, 2, 128, 2048, DType::kFloat16, true, 0.1},
                      PlanCase{kB200, 8, 8, 128, 2048, DType::kBFloat16, false},
                      PlanCase{kB200, 8, 1, 96, 1001, DType::kFloat16, false},
                      PlanCase{kB200, 8, 8, 64, 2048, DType::kBFloat16, true}));

TEST_F(AttentionPlanTest, WhatCudnnRefusesIsAClearError) {
  const CudnnAttention attention(
      {.samples = 1, .seq_length = 64, .heads = 2, .groups = 2, .head_dim = 20}, DType::kBFloat16);
  try {
    Plan(kH100, attention, AttentionPass::kForward);
    FAIL() << "a row of 40 bytes was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("cuDNN"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr(attention.ToString()));
  }
}

TEST_F(AttentionPlanTest, AGpuThatIsNotDescribedIsAClearError) {
  const std::string what = "no GPU";
  try {
    CudnnDeviceOf(*cudnn, std::string("{}"), what);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("cudnnBackendFinalize"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("maxGridSize"));
  }
}

}  // namespace
}  // namespace cairn::cuda
