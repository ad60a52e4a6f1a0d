#include "runtime/ops/attention_plan_cuda.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/ops/attention_graph_cuda.h"

namespace cairn::cuda {
namespace {

// More than cuDNN offers for any attention.
constexpr int kMostChoices = 16;

// Own tensors of a workspace start at multiples of this; so does cuDNN's part.
int64_t AlignUp(uint64_t bytes) { return static_cast<int64_t>((bytes + 255) / 256 * 256); }

}  // namespace

CudnnDescriptor CudnnDeviceOf(const Cudnn& cudnn, cudnnHandle_t handle, const std::string& what) {
  CudnnDescriptor device(cudnn, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, what);
  device.Set(CUDNN_ATTR_DEVICEPROP_HANDLE, handle);
  device.Finalize();
  return device;
}

CudnnDescriptor CudnnDeviceOf(const Cudnn& cudnn, const std::string& json,
                              const std::string& what) {
  CudnnDescriptor device(cudnn, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, what);
  device.Set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
             std::vector<char>(json.begin(), json.end()));
  device.Finalize();
  return device;
}

AttentionPlan::AttentionPlan(const Cudnn& cudnn, const CudnnDescriptor& device,
                             const CudnnAttention& attention, AttentionPass pass)
    : cudnn_(cudnn),
      attention_(attention),
      pass_(pass),
      what_(std::make_unique<const std::string>(
          fmt::format("the {} pass of {}", pass == AttentionPass::kForward ? "forward" : "backward",
                      attention.ToString()))),
      plan_(Choose(device, pass == AttentionPass::kForward
                               ? ForwardGraph(cudnn, attention, *what_)
                               : BackwardGraph(cudnn, attention, *what_))) {
  own_bytes_ = 0;
  if (pass == AttentionPass::kBackward) {
    const int64_t rows = attention.batch * attention.heads * attention.seq_length;
    query_sum_at_ = AlignUp(rows * sizeof(float));
    own_bytes_ = query_sum_at_;
    if (!attention.deterministic) own_bytes_ += AlignUp(rows * attention.head_dim * sizeof(float));
  }
  workspace_bytes_ = own_bytes_ + plan_.Get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
}

// The first of cuDNN's choices, best first, that it can build.
CudnnDescriptor AttentionPlan::Choose(const CudnnDescriptor& device, const CudnnDescriptor& graph) {
  CudnnDescriptor heuristic(cudnn_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, *what_);
  heuristic.Set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.Set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A);
  heuristic.Set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  heuristic.Finalize();
  std::vector<CudnnDescriptor> configs;
  configs.reserve(kMostChoices);
  for (int i = 0; i < kMostChoices; ++i) {
    configs.emplace_back(cudnn_, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, *what_);
  }
  const int64_t found = heuristic.GetAll(CUDNN_ATTR_ENGINEHEUR_RESULTS, configs);
  std::string refusal = "it knows no way";
  for (const CudnnDescriptor& config : std::span(configs).first(found)) {
    CudnnDescriptor engine(cudnn_, CUDNN_BACKEND_ENGINE_DESCRIPTOR, *what_);
    config.Get(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    const auto notes = engine.GetAll<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                                  CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    if (attention_.deterministic &&
        std::ranges::find(notes, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) != notes.end()) {
      continue;
    }
    CudnnDescriptor plan(cudnn_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, *what_);
    plan.Set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    plan.Set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
    try {
      plan.Finalize();
      return plan;
    } catch (const Error& error) {
      refusal = error.message();
    }
  }
  Throw(ErrorKind::kDevice, "cuDNN", "has no plan for {}: {}", *what_, refusal);
}

void AttentionPlan::Run(cudnnHandle_t handle, const Tensors& tensors, std::byte* workspace,
                        const AttentionDropout& dropout) {
  CHECK_EQ(attention_.dropout, dropout.probability > 0);
  const auto step = [](void* base, int64_t bytes) -> void* {
    return base == nullptr ? nullptr : static_cast<std::byte*>(base) + bytes;
  };
  const auto width = static_cast<int64_t>(DTypeSize(attention_.dtype));
  for (int64_t call = 0; call < attention_.calls; ++call) {
    const int64_t qkv = call * attention_.QkvStep() * width;
    const int64_t out = call * attention_.OutStep() * width;
    const int64_t logsumexp = call * attention_.LogsumexpStep() * int64_t{sizeof(float)};
    if (attention_.dropout) dropout.draw(call);
    Call(handle,
         {step(tensors.qkv, qkv), step(tensors.out, out), step(tensors.logsumexp, logsumexp),
          step(tensors.dout, out), step(tensors.dqkv, qkv)},
         workspace, dropout);
  }
}

void AttentionPlan::Call(cudnnHandle_t handle, const Tensors& tensors, std::byte* workspace,
                         const AttentionDropout& dropout) {
  const auto width = static_cast<int64_t>(DTypeSize(attention_.dtype));
  const auto at = [width](void* base, const AttentionView& view) -> void* {
    return static_cast<std::byte*>(base) + view.offset * width;
  };
  float scale = 1.0f / std::sqrt(static_cast<float>(attention_.head_dim));
  float hidden = -std::numeric_limits<float>::infinity();
  std::vector<int64_t> uids = {kQuery, kKey, kValue, kOut, kLogsumexp, kScale, kHidden};
  std::vector<void*> pointers = {at(tensors.qkv, attention_.Query()),
                                 at(tensors.qkv, attention_.Key()),
                                 at(tensors.qkv, attention_.Value()),
                                 tensors.out,
                                 tensors.logsumexp,
                                 &scale,
                                 &hidden};
  auto kept = static_cast<float>(1.0 - dropout.probability);
  auto kept_scale = static_cast<float>(1.0 / (1.0 - dropout.probability));
  if (attention_.dropout) {
    uids.insert(uids.end(), {kMask, kKeptScale});
    pointers.insert(pointers.end(), {dropout.mask, &kept_scale});
  }
  if (pass_ == AttentionPass::kBackward) {
    uids.insert(uids.end(),
                {kOutGradient, kQueryGradient, kKeyGradient, kValueGradient, kOutDot, kKept});
    pointers.insert(pointers.end(), {tensors.dout, at(tensors.dqkv, attention_.Query()),
                                     at(tensors.dqkv, attention_.Key()),
                                     at(tensors.dqkv, attention_.Value()), workspace, &kept});
    if (!attention_.deterministic) {
      uids.push_back(kQuerySum);
      pointers.push_back(workspace + query_sum_at_);
    }
  }
  void* const rest = workspace + own_bytes_;
  CudnnDescriptor pack(cudnn_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, *what_);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, uids);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, rest);
  pack.Finalize();
  cudnn_.Check(cudnn_.execute(handle, plan_.raw(), pack.raw()), "cudnnBackendExecute", *what_);
}

}  // namespace cairn::cuda
