// The graphs of cuDNN's attention, computed operation by operation on the CPU: they are the
// attention of the CPU's kernel, and read and write where it does.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "graph_interpreter_testing.h"
#include "runtime/base/error.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/attention_kernel.h"
#include "runtime/ops/attention_plan_cuda.h"
#include "tests/runtime/ops/jacobian_testing.h"

namespace cairn::cuda {
namespace {

using cairn::testing::ExpectClose;
using cairn::testing::RandomTensor;
using cairn::testing::ToDoubles;

struct GraphCase {
  int64_t heads;
  int64_t groups;
  bool deterministic;
  double dropout = 0;
};

class AttentionGraphTest : public ::testing::TestWithParam<GraphCase> {};

TEST_P(AttentionGraphTest, IsTheAttentionOfTheCpu) {
  std::unique_ptr<const Cudnn> library;
  try {
    library = std::make_unique<Cudnn>();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const Cudnn cudnn = testing::Interpreted(*library);
  const auto& [heads, groups, deterministic, dropout] = GetParam();
  const AttentionSpec spec = {.samples = 2,
                              .seq_length = 5,
                              .heads = heads,
                              .groups = groups,
                              .head_dim = 8,
                              .dropout = dropout,
                              .key = {.seed = 3, .step = 2, .site = 1},
                              .first_sample = 4,
                              .first_head = 1,
                              .total_heads = heads + 2,
                              .deterministic = deterministic};
  const std::unique_ptr<Device> device = NewCpuDevice();
  const int64_t tokens = spec.samples * spec.seq_length;
  constexpr DType kType = DType::kFloat16;
  const Tensor qkv =
      RandomTensor(*device, {tokens, (heads + 2 * groups) * spec.head_dim}, 1, 1.5, 0.0, kType);
  const Tensor dout = RandomTensor(*device, {tokens, heads * spec.head_dim}, 2, 1.0, 0.0, kType);
  const Tensor expected_out = dout.EmptyLike();
  const Tensor expected_logsumexp =
      Tensor::Empty({spec.samples, heads, spec.seq_length}, DType::kFloat32, *device);
  const Tensor expected_dqkv = qkv.EmptyLike();
  cairn::AttentionForward(expected_out, expected_logsumexp, qkv, spec);
  cairn::AttentionBackward(expected_dqkv, dout, qkv, expected_out, expected_logsumexp, spec);

  const Tensor out = dout.EmptyLike();
  const Tensor logsumexp = expected_logsumexp.EmptyLike();
  const Tensor dqkv = qkv.EmptyLike();
  const CudnnAttention attention(spec, kType);
  const AttentionPlan::Tensors tensors = {qkv.raw(), out.raw(), logsumexp.raw(), dout.raw(),
                                          dqkv.raw()};
  const Tensor mask = Tensor::Empty({heads, spec.seq_length, spec.seq_length}, kType, *device);
  const AttentionGeometry geometry(spec);
  const auto draw = [&](int64_t sample) {
    for (int64_t i = 0; i < mask.numel(); ++i) {
      const int64_t row = i / spec.seq_length;
      const float factor = geometry.DropoutFactor(sample, row / spec.seq_length,
                                                  row % spec.seq_length, i % spec.seq_length);
      mask.data<Float16>()[i] = Float16(factor != 0 ? 1.0f : 0.0f);
    }
  };
  const std::string what = "a described GPU";
  const CudnnDescriptor gpu = CudnnDeviceOf(cudnn, std::string("{}"), what);
  for (const AttentionPass pass : {AttentionPass::kForward, AttentionPass::kBackward}) {
    AttentionPlan plan(cudnn, gpu, attention, pass);
    std::vector<std::byte> workspace(static_cast<size_t>(plan.workspace_bytes()));
    plan.Run(nullptr, tensors, workspace.data(), {dropout, mask.raw(), draw});
  }
  ExpectClose(out, ToDoubles(expected_out), 2e-3, "out");
  ExpectClose(logsumexp, ToDoubles(expected_logsumexp), 1e-5, "logsumexp");
  ExpectClose(dqkv, ToDoubles(expected_dqkv), 4e-3, "dqkv");
}

INSTANTIATE_TEST_SUITE_P(Heads, AttentionGraphTest,
                         ::testing::Values(GraphCase{3, 3, false}, GraphCase{3, 3, true},
                                           GraphCase{4, 1, false}, GraphCase{4, 1, true},
                                           GraphCase{6, 2, false}, GraphCase{6, 2, true},
                                           GraphCase{3, 3, false, 0.3}, GraphCase{3, 3, true, 0.3},
                                           GraphCase{4, 1, false, 0.1},
                                           GraphCase{6, 2, true, 0.5}));

}  // namespace
}  // namespace cairn::cuda
