#pragma once

#include <cublasLt.h>

#include <memory>
#include <optional>
#include <vector>

#include "runtime/ops/matmul_cuda.h"

namespace cairn::cuda {

/// The functions of cuBLASLt that products need; see SharedLibrary.
struct CublasLt {
  CublasLt();
  /// Throws where `code` is not success.
  void Check(cublasStatus_t code, const char* call, const ProductShape& shape) const;

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

/// Where products run.
struct ProductContext {
  CublasLt lt;
  cublasLtHandle_t handle = nullptr;
  Tensor workspace;  ///< of the stream
  cudaStream_t stream = nullptr;
};

/// The tensors of one product; see Matmul() and Epilogue.
struct Operands {
  const Tensor& c;
  const Tensor& a;
  const Tensor& b;
  Epilogue epilogue;
};

/// A product of one shape, with the algorithm that was chosen for it.
class ProductPlan {
 public:
  /// Asks cuBLASLt for the algorithms that it thinks best. Where `may_time` and the shape allow it,
  /// it tries each of them on `operands` and keeps the fastest: c holds anything after that, but an
  /// accumulated c is what it was. Waits for the GPU then.
  ProductPlan(const ProductContext& context, const ProductShape& shape, const Operands& operands,
              bool may_time);

  /// False: cuBLASLt has no kernel for it.
  bool found() const { return found_; }
  /// Starts the product.
  void Run(const ProductContext& context, const Operands& operands) const;

 private:
  bool fused() const { return shape_.epilogue != Epilogue::Kind::kNone; }
  // A description that cuBLASLt made and takes back.
  template <typename T>
  using Handle = std::unique_ptr<T, cublasStatus_t (*)(T*)>;

  Handle<cublasLtMatmulDescOpaque_t> MakeDesc(const CublasLt& lt) const;
  Handle<cublasLtMatrixLayoutOpaque_t> MakeLayout(const CublasLt& lt,
                                                  const ProductShape::Matrix& matrix,
                                                  DType dtype) const;
  std::vector<cublasLtMatmulAlgo_t> Candidates(const ProductContext& context, int most) const;
  std::optional<size_t> Fastest(const ProductContext& context, const Operands& operands,
                                const std::vector<cublasLtMatmulAlgo_t>& candidates) const;
  void SetPointers(const CublasLt& lt, const Epilogue& epilogue) const;
  // The result goes to `out`, which is operands.c but for trials.
  cublasStatus_t Start(const ProductContext& context, const Operands& operands, const Tensor& out,
                       const cublasLtMatmulAlgo_t& algorithm) const;

  ProductShape shape_;
  Handle<cublasLtMatmulDescOpaque_t> desc_;
  Handle<cublasLtMatrixLayoutOpaque_t> first_;
  Handle<cublasLtMatrixLayoutOpaque_t> second_;
  Handle<cublasLtMatrixLayoutOpaque_t> out_;
  cublasLtMatmulAlgo_t algorithm_{};
  bool found_ = false;
};

}  // namespace cairn::cuda
