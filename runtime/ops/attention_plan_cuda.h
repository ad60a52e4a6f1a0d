#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "runtime/ops/attention_cudnn.h"
#include "runtime/ops/cudnn_cuda.h"

namespace cairn::cuda {

/// A GPU as cuDNN's choices see it: the one of `handle`, or one that `json` describes, with no GPU
/// or driver at hand. `what` as for CudnnDescriptor.
CudnnDescriptor CudnnDeviceOf(const Cudnn& cudnn, cudnnHandle_t handle, const std::string& what);
CudnnDescriptor CudnnDeviceOf(const Cudnn& cudnn, const std::string& json, const std::string& what);

enum class AttentionPass { kForward, kBackward };

/// What a run needs of an attention's dropout.
struct AttentionDropout {
  double probability = 0;
  void* mask = nullptr;                    ///< one call's (CudnnAttention::Mask)
  std::function<void(int64_t call)> draw;  ///< writes it, on the handle's stream
};

/// One pass of an attention, chosen and compiled for a GPU.
class AttentionPlan {
 public:
  /// Throws Error(kDevice) where cuDNN has nothing for it, or nothing deterministic if so asked.
  AttentionPlan(const Cudnn& cudnn, const CudnnDescriptor& device, const CudnnAttention& attention,
                AttentionPass pass);

  /// Pointers to the first elements.
  struct Tensors {
    void* qkv;
    void* out;
    void* logsumexp;
    void* dout = nullptr;  ///< backward only, as dqkv
    void* dqkv = nullptr;
  };
  /// All calls of the attention, on the handle's stream. `workspace` has workspace_bytes() at a
  /// multiple of 256. `dropout` is {} where the attention has none.
  void Run(cudnnHandle_t handle, const Tensors& tensors, std::byte* workspace,
           const AttentionDropout& dropout);

  int64_t workspace_bytes() const { return workspace_bytes_; }

 private:
  void Call(cudnnHandle_t handle, const Tensors& tensors, std::byte* workspace,
            const AttentionDropout& dropout);
  CudnnDescriptor Choose(const CudnnDescriptor& device, const CudnnDescriptor& graph);

  const Cudnn& cudnn_;
  CudnnAttention attention_;
  AttentionPass pass_;
  std::unique_ptr<const std::string> what_;  // descriptors refer to it
  CudnnDescriptor plan_;
  // Of the workspace, in bytes. First come tensors of backward's graph that are not the caller's:
  // the sums of out * dout, and of dq.
  int64_t query_sum_at_ = 0;
  int64_t own_bytes_ = 0;
  int64_t workspace_bytes_ = 0;  // these, and cuDNN's
};

}  // namespace cairn::cuda
