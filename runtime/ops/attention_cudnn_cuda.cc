#include <glog/logging.h>

#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/device/cuda_call.h"
#include "runtime/device/cuda_device.h"
#include "runtime/ops/attention_plan_cuda.h"
#include "runtime/ops/kernels_cuda.h"

namespace cairn::cuda {
namespace {

// cuDNN with a handle on one GPU.
class CudnnOnDevice {
 public:
  explicit CudnnOnDevice(const CudaDevice& device) : what_(fmt::format("cuda:{}", device.index())) {
    cudnn_.Check(cudnn_.create(&handle_), "cudnnCreate", what_);
    try {
      cudnn_.Check(cudnn_.set_stream(handle_, device.native_stream()), "cudnnSetStream", what_);
      properties_.emplace(CudnnDeviceOf(cudnn_, handle_, what_));
    } catch (...) {
      (void)cudnn_.destroy(handle_);
      throw;
    }
  }
  ~CudnnOnDevice() {
    properties_.reset();
    (void)cudnn_.destroy(handle_);
  }
  CudnnOnDevice(const CudnnOnDevice&) = delete;
  CudnnOnDevice& operator=(const CudnnOnDevice&) = delete;

  const Cudnn& cudnn() const { return cudnn_; }
  cudnnHandle_t handle() const { return handle_; }
  const CudnnDescriptor& properties() const { return *properties_; }

 private:
  std::string what_;
  Cudnn cudnn_;
  cudnnHandle_t handle_ = nullptr;
  std::optional<CudnnDescriptor> properties_;
};

// What a GPU keeps for its attentions: a plan is made once for a shape. Why the tiles run where
// cuDNN does not is logged once for each reason.
class Attentions {
 public:
  explicit Attentions(CudaDevice& device) : device_(device) {
    int major = 0;
    int minor = 0;
    CheckCuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index()),
              "cudaDeviceGetAttribute");
    CheckCuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index()),
              "cudaDeviceGetAttribute");
    compute_capability_ = 10 * major + minor;
    try {
      cudnn_.emplace(device);
    } catch (const Error& error) {
      no_cudnn_ = error.what();
    }
  }

  // False where cuDNN cannot do it.
  bool Run(AttentionPass pass, const AttentionSpec& spec, DType dtype,
           const AttentionPlan::Tensors& tensors) {
    Kept* const kept = PlanFor(pass, spec, dtype);
    if (kept == nullptr) return false;
    Tensor workspace;
    Tensor mask;
    AttentionDropout dropout;
    try {
      workspace = Tensor::Empty({kept->plan->workspace_bytes()}, DType::kUInt8, device_);
      if (spec.dropout > 0) {
        mask = Tensor::Empty({spec.heads, spec.seq_length, spec.seq_length}, dtype, device_);
        dropout = {spec.dropout, mask.raw(),
                   [&](int64_t sample) { AttentionMask(mask, spec, sample); }};
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kOutOfMemory) throw;
      TellOnce("no memory is left for its workspace");
      return false;
    }
    try {
      kept->plan->Run(cudnn_->handle(), tensors, static_cast<std::byte*>(workspace.raw()), dropout);
    } catch (const Error& error) {
      if (kept->has_run) throw;
      // It cannot be started here at all.
      kept->plan.reset();
      TellOnce(error.what());
      return false;
    }
    kept->has_run = true;
    return true;
  }

 private:
  struct Kept {
    std::optional<AttentionPlan> plan;  // none: the tiles run
    bool has_run = false;
  };

  Kept* PlanFor(AttentionPass pass, const AttentionSpec& spec, DType dtype) {
    const std::string reason =
        cudnn_ ? WhyNotCudnn(spec, dtype, compute_capability_, cudnn_->cudnn().version())
               : no_cudnn_;
    if (!reason.empty()) {
      TellOnce(reason);
      return nullptr;
    }
    const CudnnAttention attention(spec, dtype);
    const auto [found, is_new] = plans_.try_emplace({pass, attention});
    if (is_new) {
      try {
        found->second.plan.emplace(cudnn_->cudnn(), cudnn_->properties(), attention, pass);
      } catch (const Error& error) {
        TellOnce(error.what());
      }
    }
    return found->second.plan ? &found->second : nullptr;
  }

  void TellOnce(const std::string& reason) {
    if (!told_.insert(reason).second) return;
    LOG(WARNING) << "cuda:" << device_.index()
                 << ": attention runs in Cairn's own kernel, slower than cuDNN's: " << reason;
  }

  CudaDevice& device_;
  int compute_capability_ = 0;
  std::optional<CudnnOnDevice> cudnn_;
  std::string no_cudnn_;
  std::map<std::pair<AttentionPass, CudnnAttention>, Kept> plans_;
  std::set<std::string> told_;
};

}  // namespace

void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec) {
  if (qkv.numel() == 0) return;
  auto& attentions = AsCuda(qkv.device()).State<Attentions>();
  if (!attentions.Run(AttentionPass::kForward, spec, qkv.dtype(),
                      {.qkv = qkv.raw(), .out = out.raw(), .logsumexp = logsumexp.raw()})) {
    AttentionForwardByTiles(out, logsumexp, qkv, spec);
  }
}

void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec) {
  if (qkv.numel() == 0) return;
  auto& attentions = AsCuda(qkv.device()).State<Attentions>();
  if (!attentions.Run(AttentionPass::kBackward, spec, qkv.dtype(),
                      {.qkv = qkv.raw(),
                       .out = out.raw(),
                       .logsumexp = logsumexp.raw(),
                       .dout = dout.raw(),
                       .dqkv = dqkv.raw()})) {
    AttentionBackwardByTiles(dqkv, dout, qkv, out, logsumexp, spec);
  }
}

}  // namespace cairn::cuda
