// cuBLASLt's products: what each reads and writes is recorded, and nothing computed.

#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "machine.h"

using cairn::fake::Access;
using cairn::fake::Machine;
using cairn::fake::Stream;

struct cublasLtContext {};

namespace {

// The attributes of a description, by number, as they were set.
using Attributes = std::map<int, std::vector<std::byte>>;

// A description is opaque to its user: it points to what is kept here.
template <typename T>
Attributes& Of(T* description) {
  return **reinterpret_cast<Attributes**>(description);
}

template <typename T>
cublasStatus_t Create(T** description) {
  *description = new T{};
  *reinterpret_cast<Attributes**>(*description) = new Attributes;
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t Destroy(T* description) {
  delete &Of(description);
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t Set(Attributes& attributes, int attribute, const void* value, size_t bytes) {
  const auto* const first = static_cast<const std::byte*>(value);
  attributes[attribute].assign(first, first + bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
T Get(const Attributes& attributes, int attribute, T fallback) {
  const auto found = attributes.find(attribute);
  if (found == attributes.end()) return fallback;
  T value = fallback;
  std::memcpy(&value, found->second.data(), std::min(sizeof(T), found->second.size()));
  return value;
}

size_t SizeOf(int type) { return type == CUDA_R_32F ? 4 : 2; }

// From the first element to the last of a column-major matrix.
size_t Bytes(const Attributes& layout) {
  const auto rows = Get<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, 0);
  const auto columns = Get<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_COLS, 0);
  const auto stride = Get<int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_LD, 0);
  const auto type = Get<int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, 0);
  return ((columns - 1) * static_cast<uint64_t>(stride) + rows) * SizeOf(type);
}

// Vectors and matrices that an epilogue uses beside the product.
void AddEpilogue(const Attributes& product, const Attributes& out, int out_type,
                 std::vector<Access>& accesses) {
  const auto epilogue =
      Get<int32_t>(product, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  const auto* bias = Get<const void*>(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
  const auto* aux = Get<const void*>(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
  constexpr int kBiasGradient = (CUBLASLT_EPILOGUE_DGELU_BGRAD & ~CUBLASLT_EPILOGUE_DGELU) |
                                CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB;
  const bool writes_bias = (epilogue & kBiasGradient) != 0;
  if ((epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 || writes_bias) {
    // Of BGRADB the vector is as long as the columns; of the others as the rows.
    const auto length =
        Get<uint64_t>(out,
                      (epilogue & CUBLASLT_EPILOGUE_BGRADB) != 0 ? CUBLASLT_MATRIX_LAYOUT_COLS
                                                                 : CUBLASLT_MATRIX_LAYOUT_ROWS,
                      0);
    const auto type = Get<int32_t>(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, out_type);
    accesses.push_back({bias, length * SizeOf(type), writes_bias});
  }
  constexpr int kAux = 128;
  if ((epilogue & kAux) != 0) {
    const bool gradient = (epilogue & CUBLASLT_EPILOGUE_DGELU & ~kAux) != 0 ||
                          (epilogue & CUBLASLT_EPILOGUE_DRELU & ~kAux) != 0;
    const auto columns = Get<uint64_t>(out, CUBLASLT_MATRIX_LAYOUT_COLS, 0);
    const auto stride = Get<int64_t>(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0);
    const auto type = Get<int32_t>(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, out_type);
    accesses.push_back({aux, columns * static_cast<uint64_t>(stride) * SizeOf(type), !gradient});
  }
}

}  // namespace

extern "C" {

const char* cublasLtGetStatusString(cublasStatus_t) {
  return "the fake cuBLASLt's report says more";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t,
                                        cudaDataType_t) {
  return Create(product);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) { return Destroy(product); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return Set(Of(product), attribute, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  Create(layout);
  const auto number = static_cast<int32_t>(type);
  Set(Of(*layout), CUBLASLT_MATRIX_LAYOUT_TYPE, &number, sizeof(number));
  Set(Of(*layout), CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, sizeof(rows));
  Set(Of(*layout), CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof(columns));
  return Set(Of(*layout), CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof(stride));
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return Destroy(layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  return Set(Of(layout), attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return Create(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return Destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  return Set(Of(preference), attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
  *found = std::min(wanted, 2);
  std::fill_n(results, *found, cublasLtMatmulHeuristicResult_t{});  // CUBLAS_STATUS_SUCCESS is 0
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void*,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*,
                              void* workspace, size_t workspace_bytes, cudaStream_t handle) {
  const auto lock = Machine::Get().Lock();
  Stream* const stream =
      Machine::Get().FindStream(reinterpret_cast<uintptr_t>(handle), "cublasLtMatmul");
  if (stream == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const Attributes& out = Of(d_layout);
  std::vector<Access> accesses = {{a, Bytes(Of(a_layout)), false},
                                  {b, Bytes(Of(b_layout)), false},
                                  {d, Bytes(out), true},
                                  {workspace, workspace_bytes, true}};
  if (*static_cast<const float*>(beta) != 0) accesses.push_back({c, Bytes(Of(c_layout)), false});
  AddEpilogue(Of(product), out, Get<int32_t>(out, CUBLASLT_MATRIX_LAYOUT_TYPE, 0), accesses);
  Machine::Get().Give(*stream, {.what = "cublasLtMatmul", .ready = nullptr, .run = nullptr},
                      accesses);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
