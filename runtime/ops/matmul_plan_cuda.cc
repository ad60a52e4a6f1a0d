#include "runtime/ops/matmul_plan_cuda.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <span>
#include <type_traits>

#include "runtime/base/error.h"
#include "runtime/base/shared_library.h"
#include "runtime/device/cuda_call.h"
#include "runtime/ops/matmul_choice.h"

namespace cairn::cuda {
namespace {

// How many of the heuristic's algorithms are tried, and how often each is timed, after a run that
// loads its kernel.
constexpr int kCandidates = 8;
constexpr int kTimedRuns = 3;

cudaDataType_t CudaType(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return CUDA_R_32F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat16:
      return CUDA_R_16F;
    default:
      ThrowUnsupportedDType("Matmul", dtype);
  }
}

cublasLtEpilogue_t CublasEpilogue(const ProductShape& shape) {
  switch (shape.epilogue) {
    case Epilogue::Kind::kNone:
      break;
    case Epilogue::Kind::kGelu:
      return shape.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::Kind::kGeluGradient:
      return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::Kind::kRowSums:
      return CUBLASLT_EPILOGUE_BGRADB;  // a is the second matrix
  }
  return shape.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

// A point in a stream whose time is known.
class TimedEvent {
 public:
  TimedEvent() { CheckCuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~TimedEvent() { LogCuda(cudaEventDestroy(event_), "cudaEventDestroy"); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;

  void Record(cudaStream_t stream) {
    CheckCuda(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  void Synchronize() { CheckCuda(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
  float MillisecondsTo(const TimedEvent& later) const {
    float milliseconds = 0;
    CheckCuda(cudaEventElapsedTime(&milliseconds, event_, later.event_), "cudaEventElapsedTime");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

CublasLt::CublasLt() {
  const SharedLibrary library("libcublasLt.so.13",
                              "it comes with the CUDA 13 toolkit and runtime; `cairn doctor`");
  library.Find("cublasLtGetStatusString", status_string);
  library.Find("cublasLtCreate", create);
  library.Find("cublasLtDestroy", destroy);
  library.Find("cublasLtMatmulDescCreate", desc_create);
  library.Find("cublasLtMatmulDescDestroy", desc_destroy);
  library.Find("cublasLtMatmulDescSetAttribute", desc_set);
  library.Find("cublasLtMatrixLayoutCreate", layout_create);
  library.Find("cublasLtMatrixLayoutDestroy", layout_destroy);
  library.Find("cublasLtMatmulPreferenceCreate", preference_create);
  library.Find("cublasLtMatmulPreferenceDestroy", preference_destroy);
  library.Find("cublasLtMatmulPreferenceSetAttribute", preference_set);
  library.Find("cublasLtMatmulAlgoGetHeuristic", heuristic);
  library.Find("cublasLtMatmul", matmul);
}

void CublasLt::Check(cublasStatus_t code, const char* call, const ProductShape& shape) const {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  Throw(ErrorKind::kDevice, fmt::format("Matmul {}", call),
        "{}, for a {} product [{}, {}] of depth {}", status_string(code), DTypeName(shape.in),
        shape.out.columns, shape.out.rows,
        shape.transpose_first ? shape.first.rows : shape.first.columns);
}

ProductPlan::ProductPlan(const ProductContext& context, const ProductShape& shape,
                         const Operands& operands, bool may_time)
    : shape_(shape),
      desc_(MakeDesc(context.lt)),
      first_(MakeLayout(context.lt, shape.first, shape.in)),
      second_(MakeLayout(context.lt, shape.second, shape.in)),
      out_(MakeLayout(context.lt, shape.out, shape.result)) {
  SetPointers(context.lt, operands.epilogue);  // the heuristic looks at their alignment
  const bool timed = shape.timed && may_time;
  const std::vector<cublasLtMatmulAlgo_t> candidates = Candidates(context, timed ? kCandidates : 1);
  std::optional<size_t> chosen;
  if (!candidates.empty()) chosen = 0;
  // A fused product is tried in any case: the ops apart can do what it cannot.
  if (timed && (candidates.size() > 1 || (fused() && !candidates.empty()))) {
    chosen = Fastest(context, operands, candidates);
  }
  // Where no plain product runs, the product itself says why.
  if (!fused() && !candidates.empty()) chosen = chosen.value_or(0);
  found_ = chosen.has_value();
  if (found_) {
    algorithm_ = candidates[*chosen];
  } else if (fused()) {
    LOG(WARNING) << "no fused kernel for a " << DTypeName(shape.in) << " product ["
                 << shape.out.columns << ", " << shape.out.rows
                 << "] with what follows it: both run one after the other";
  }
}

ProductPlan::Handle<cublasLtMatmulDescOpaque_t> ProductPlan::MakeDesc(const CublasLt& lt) const {
  cublasLtMatmulDesc_t raw = nullptr;
  // fp32 products are computed in fp32, never in TF32.
  lt.Check(lt.desc_create(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate",
           shape_);
  Handle<cublasLtMatmulDescOpaque_t> desc(raw, lt.desc_destroy);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    lt.Check(lt.desc_set(raw, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute",
             shape_);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, shape_.transpose_first ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, shape_.transpose_second ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CublasEpilogue(shape_));
  if (shape_.bias) {
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
        CudaType(shape_.epilogue == Epilogue::Kind::kRowSums ? shape_.result : shape_.in));
  }
  if (shape_.epilogue == Epilogue::Kind::kGelu ||
      shape_.epilogue == Epilogue::Kind::kGeluGradient) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, shape_.out.rows);
  }
  return desc;
}

ProductPlan::Handle<cublasLtMatrixLayoutOpaque_t> ProductPlan::MakeLayout(
    const CublasLt& lt, const ProductShape::Matrix& matrix, DType dtype) const {
  cublasLtMatrixLayout_t raw = nullptr;
  lt.Check(lt.layout_create(&raw, CudaType(dtype), static_cast<uint64_t>(matrix.rows),
                            static_cast<uint64_t>(matrix.columns), matrix.stride),
           "cublasLtMatrixLayoutCreate", shape_);
  return {raw, lt.layout_destroy};
}

std::vector<cublasLtMatmulAlgo_t> ProductPlan::Candidates(const ProductContext& context,
                                                          int most) const {
  const CublasLt& lt = context.lt;
  cublasLtMatmulPreference_t raw = nullptr;
  lt.Check(lt.preference_create(&raw), "cublasLtMatmulPreferenceCreate", shape_);
  const Handle<cublasLtMatmulPreferenceOpaque_t> preference(raw, lt.preference_destroy);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    lt.Check(lt.preference_set(raw, attribute, &value, sizeof(value)),
             "cublasLtMatmulPreferenceSetAttribute", shape_);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, context.workspace.bytes());
  // Parts of a sum are added in fp32, never in the result's type.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set(attribute, shape_.alignment);
  }
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
  int found = 0;
  const cublasStatus_t code =
      lt.heuristic(context.handle, desc_.get(), first_.get(), second_.get(), out_.get(), out_.get(),
                   raw, most, results.data(), &found);
  std::vector<cublasLtMatmulAlgo_t> candidates;
  if (code == CUBLAS_STATUS_NOT_SUPPORTED || (fused() && code != CUBLAS_STATUS_SUCCESS)) {
    return candidates;
  }
  lt.Check(code, "cublasLtMatmulAlgoGetHeuristic", shape_);
  for (const auto& result : std::span(results).first(static_cast<size_t>(found))) {
    if (result.state == CUBLAS_STATUS_SUCCESS) candidates.push_back(result.algo);
  }
  return candidates;
}

std::optional<size_t> ProductPlan::Fastest(
    const ProductContext& context, const Operands& operands,
    const std::vector<cublasLtMatmulAlgo_t>& candidates) const {
  Tensor out = operands.c;
  if (shape_.accumulate) {
    try {
      out = Tensor::Empty({shape_.out.columns * shape_.out.stride}, shape_.result,
                          operands.c.device());
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kOutOfMemory) throw;
      LOG(WARNING) << "no memory to time the algorithms of a product: " << error.what();
      return 0;
    }
  }
  // Round by round, so that a clock that rises or falls meets all of them alike; the host waits
  // once.
  std::vector<TimedEvent> events((kTimedRuns + 1) * (candidates.size() + 1));
  std::vector<bool> runs(candidates.size(), true);
  auto event = events.begin();
  for (int round = 0; round <= kTimedRuns; ++round) {
    (event++)->Record(context.stream);
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (runs[i]) {
        runs[i] = Start(context, operands, out, candidates[i]) == CUBLAS_STATUS_SUCCESS;
      }
      (event++)->Record(context.stream);
    }
  }
  events.back().Synchronize();
  std::vector<std::vector<float>> times(candidates.size());
  for (int round = 1; round <= kTimedRuns; ++round) {  // the first one loaded the kernels
    const auto begin = events.begin() + round * static_cast<int64_t>(candidates.size() + 1);
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (runs[i]) times[i].push_back(begin[i].MillisecondsTo(begin[i + 1]));
    }
  }
  return FastestCandidate(times);
}

void ProductPlan::SetPointers(const CublasLt& lt, const Epilogue& epilogue) const {
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const Tensor* tensor) {
    if (tensor == nullptr) return;
    const void* pointer = tensor->raw();
    lt.Check(lt.desc_set(desc_.get(), attribute, &pointer, sizeof(pointer)),
             "cublasLtMatmulDescSetAttribute", shape_);
  };
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, epilogue.bias);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, epilogue.side);
}

void ProductPlan::Run(const ProductContext& context, const Operands& operands) const {
  SetPointers(context.lt, operands.epilogue);
  context.lt.Check(Start(context, operands, operands.c, algorithm_), "cublasLtMatmul", shape_);
}

cublasStatus_t ProductPlan::Start(const ProductContext& context, const Operands& operands,
                                  const Tensor& out, const cublasLtMatmulAlgo_t& algorithm) const {
  const float alpha = 1.0f;
  const float beta = shape_.accumulate ? 1.0f : 0.0f;
  return context.lt.matmul(context.handle, desc_.get(), &alpha, operands.b.raw(), first_.get(),
                           operands.a.raw(), second_.get(), &beta, operands.c.raw(), out_.get(),
                           out.raw(), out_.get(), &algorithm, context.workspace.raw(),
                           context.workspace.bytes(), context.stream);
}

}  // namespace cairn::cuda
