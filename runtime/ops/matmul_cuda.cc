#include "runtime/ops/matmul_cuda.h"

#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <memory>

#include "runtime/base/error.h"
#include "runtime/base/shared_library.h"
#include "runtime/device/cuda_device.h"
#include "runtime/ops/kernels_cuda.h"

namespace cairn::cuda {
namespace {

// What NVIDIA recommends for Hopper; less elsewhere does no harm.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

// The functions of cuBLASLt that products need; see SharedLibrary.
struct CublasLt {
  CublasLt() {
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

  void Check(cublasStatus_t code, const char* call, const ProductShape& shape) const {
    if (code == CUBLAS_STATUS_SUCCESS) return;
    Throw(ErrorKind::kDevice, fmt::format("Matmul {}", call),
          "{}, for a {} product [{}, {}] of depth {}", status_string(code), DTypeName(shape.in),
          shape.out.columns, shape.out.rows,
          shape.transpose_first ? shape.first.rows : shape.first.columns);
  }

  decltype(&::cublasLtGetStatusString) status_string;
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtMatmulDescCreate) desc_create;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&::cublasLtMatmul) matmul;
};

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

// A description that cuBLASLt made and takes back.
template <typename T>
using Handle = std::unique_ptr<T, cublasStatus_t (*)(T*)>;

// A product of one shape, with the algorithm that was chosen for it.
struct Plan {
  Plan(const CublasLt& lt, cublasLtHandle_t handle, const ProductShape& shape)
      : desc(MakeDesc(lt, shape)),
        first(MakeLayout(lt, shape, shape.first, shape.in)),
        second(MakeLayout(lt, shape, shape.second, shape.in)),
        out(MakeLayout(lt, shape, shape.out, shape.result)) {
    cublasLtMatmulPreference_t raw = nullptr;
    lt.Check(lt.preference_create(&raw), "cublasLtMatmulPreferenceCreate", shape);
    const Handle<cublasLtMatmulPreferenceOpaque_t> preference(raw, lt.preference_destroy);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      lt.Check(lt.preference_set(raw, attribute, &value, sizeof(value)),
               "cublasLtMatmulPreferenceSetAttribute", shape);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      set(attribute, shape.alignment);
    }
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    lt.Check(lt.heuristic(handle, desc.get(), first.get(), second.get(), out.get(), out.get(), raw,
                          1, &best, &found),
             "cublasLtMatmulAlgoGetHeuristic", shape);
    lt.Check(found > 0 ? best.state : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic",
             shape);
    algorithm = best.algo;
  }

  static Handle<cublasLtMatmulDescOpaque_t> MakeDesc(const CublasLt& lt,
                                                     const ProductShape& shape) {
    cublasLtMatmulDesc_t raw = nullptr;
    // fp32 products are computed in fp32, never in TF32.
    lt.Check(lt.desc_create(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate",
             shape);
    Handle<cublasLtMatmulDescOpaque_t> desc(raw, lt.desc_destroy);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      lt.Check(lt.desc_set(raw, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute",
               shape);
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, shape.transpose_first ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, shape.transpose_second ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (shape.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CudaType(shape.in));
    }
    return desc;
  }

  static Handle<cublasLtMatrixLayoutOpaque_t> MakeLayout(const CublasLt& lt,
                                                         const ProductShape& shape,
                                                         const ProductShape::Matrix& matrix,
                                                         DType dtype) {
    cublasLtMatrixLayout_t raw = nullptr;
    lt.Check(lt.layout_create(&raw, CudaType(dtype), static_cast<uint64_t>(matrix.rows),
                              static_cast<uint64_t>(matrix.columns), matrix.stride),
             "cublasLtMatrixLayoutCreate", shape);
    return {raw, lt.layout_destroy};
  }

  Handle<cublasLtMatmulDescOpaque_t> desc;
  Handle<cublasLtMatrixLayoutOpaque_t> first;
  Handle<cublasLtMatrixLayoutOpaque_t> second;
  Handle<cublasLtMatrixLayoutOpaque_t> out;
  cublasLtMatmulAlgo_t algorithm{};
};

// What a GPU keeps for its products: the choice for a shape is made once.
class Products {
 public:
  explicit Products(CudaDevice& device)
      : workspace_(Tensor::Empty({static_cast<int64_t>(kWorkspaceBytes)}, DType::kUInt8, device)),
        stream_(device.native_stream()) {
    const cublasStatus_t code = lt_.create(&handle_);
    if (code != CUBLAS_STATUS_SUCCESS) {
      Throw(ErrorKind::kDevice, fmt::format("cuda:{} cublasLtCreate", device.index()), "{}",
            lt_.status_string(code));
    }
  }
  ~Products() {
    plans_.clear();
    (void)lt_.destroy(handle_);
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  void Run(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
           const Tensor* bias) {
    const ProductShape shape(c, a, b, options, bias != nullptr);
    auto found = plans_.find(shape);
    if (found == plans_.end()) found = plans_.try_emplace(shape, lt_, handle_, shape).first;
    Plan& plan = found->second;
    if (bias != nullptr) {
      const void* pointer = bias->raw();
      lt_.Check(lt_.desc_set(plan.desc.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &pointer,
                             sizeof(pointer)),
                "cublasLtMatmulDescSetAttribute", shape);
    }
    const float alpha = 1.0f;
    const float beta = options.accumulate ? 1.0f : 0.0f;
    lt_.Check(lt_.matmul(handle_, plan.desc.get(), &alpha, b.raw(), plan.first.get(), a.raw(),
                         plan.second.get(), &beta, c.raw(), plan.out.get(), c.raw(), plan.out.get(),
                         &plan.algorithm, workspace_.raw(), kWorkspaceBytes, stream_),
              "cublasLtMatmul", shape);
  }

 private:
  CublasLt lt_;
  Tensor workspace_;  // of the compute stream
  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<ProductShape, Plan> plans_;
};

// The largest power of two up to 16 that divides the address.
uint32_t Alignment(const Tensor& tensor) {
  const auto address = reinterpret_cast<uintptr_t>(tensor.raw()) | 16;
  return static_cast<uint32_t>(address & ~(address - 1));
}

// A row-major matrix read column by column: its rows are the columns.
ProductShape::Matrix Stored(const Tensor& matrix) {
  const int64_t stride = matrix.dim(0) > 1 ? matrix.stride(0) : matrix.dim(1);
  return {matrix.dim(1), matrix.dim(0), std::max<int64_t>(stride, 1)};
}

}  // namespace

ProductShape::ProductShape(const Tensor& c, const Tensor& a, const Tensor& b,
                           const MatmulOptions& options, bool with_bias)
    : first(Stored(b)),
      second(Stored(a)),
      out(Stored(c)),
      transpose_first(options.transpose_b),
      transpose_second(options.transpose_a),
      accumulate(options.accumulate),
      bias(with_bias),
      in(a.dtype()),
      result(c.dtype()),
      alignment(std::min({Alignment(a), Alignment(b), Alignment(c)})) {}

void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
            const Tensor* bias) {
  if (c.numel() == 0) return;
  if (bias != nullptr && c.dtype() != bias->dtype()) {
    Throw(ErrorKind::kDevice, "Matmul", "no cuda kernel adds a {} bias to a {} result",
          DTypeName(bias->dtype()), DTypeName(c.dtype()));
  }
  auto& products = AsCuda(c.device()).State<Products>();
  if (options.row_block == 0) return products.Run(c, a, b, options, bias);
  const int row_dim = options.transpose_a ? 1 : 0;
  for (int64_t row = 0; row < c.dim(0); row += options.row_block) {
    const int64_t rows = std::min(options.row_block, c.dim(0) - row);
    products.Run(c.Narrow(0, row, rows), a.Narrow(row_dim, row, rows), b, options, bias);
  }
}

}  // namespace cairn::cuda
