#pragma once

#include <cudnn_graph.h>

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cairn::cuda {

/// The functions of cuDNN's graph API that Cairn needs; see SharedLibrary.
struct Cudnn {
  /// Throws Error(kDevice) where the library is missing or too old to have them.
  Cudnn();

  /// Throws Error(kDevice) unless `code` is success: `call`, what it was for, and cuDNN's texts.
  void Check(cudnnStatus_t code, const char* call, const std::string& what) const;

  decltype(&::cudnnGetVersion) version;
  decltype(&::cudnnGetErrorString) error_string;
  decltype(&::cudnnGetLastErrorString) last_error_string;
  decltype(&::cudnnCreate) create;
  decltype(&::cudnnDestroy) destroy;
  decltype(&::cudnnSetStream) set_stream;
  decltype(&::cudnnBackendCreateDescriptor) descriptor_create;
  decltype(&::cudnnBackendDestroyDescriptor) descriptor_destroy;
  decltype(&::cudnnBackendSetAttribute) set_attribute;
  decltype(&::cudnnBackendGetAttribute) get_attribute;
  decltype(&::cudnnBackendFinalize) finalize;
  decltype(&::cudnnBackendExecute) execute;
};

/// What cuDNN calls an attribute's type, for the C++ type that holds its value.
template <typename T>
constexpr cudnnBackendAttributeType_t AttributeType() {
  if constexpr (std::same_as<T, cudnnHandle_t>) return CUDNN_TYPE_HANDLE;
  if constexpr (std::same_as<T, cudnnDataType_t>) return CUDNN_TYPE_DATA_TYPE;
  if constexpr (std::same_as<T, bool>) return CUDNN_TYPE_BOOLEAN;
  if constexpr (std::same_as<T, int64_t>) return CUDNN_TYPE_INT64;
  if constexpr (std::same_as<T, cudnnBackendHeurMode_t>) return CUDNN_TYPE_HEUR_MODE;
  if constexpr (std::same_as<T, cudnnBackendNumericalNote_t>) return CUDNN_TYPE_NUMERICAL_NOTE;
  if constexpr (std::same_as<T, cudnnPointwiseMode_t>) return CUDNN_TYPE_POINTWISE_MODE;
  if constexpr (std::same_as<T, cudnnReduceTensorOp_t>) return CUDNN_TYPE_REDUCTION_OPERATOR_TYPE;
  if constexpr (std::same_as<T, char>) return CUDNN_TYPE_CHAR;
  // A pointer to device memory and a descriptor are one C type; see CudnnDescriptor.
  return CUDNN_TYPE_VOID_PTR;
}

/// A descriptor of cuDNN's, set attribute by attribute and then finalized.
class CudnnDescriptor {
 public:
  /// `what` is what errors say it is for, e.g. the operation and its shape; it must outlive this.
  CudnnDescriptor(const Cudnn& cudnn, cudnnBackendDescriptorType_t type, const std::string& what);
  ~CudnnDescriptor();
  CudnnDescriptor(CudnnDescriptor&& other) noexcept
      : cudnn_(other.cudnn_), what_(other.what_), raw_(std::exchange(other.raw_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&&) = delete;

  template <typename T>
  void Set(cudnnBackendAttributeName_t name, const T& value) {
    SetRaw(name, AttributeType<T>(), 1, &value);
  }
  template <typename T>
  void Set(cudnnBackendAttributeName_t name, const std::vector<T>& values) {
    SetRaw(name, AttributeType<T>(), static_cast<int64_t>(values.size()), values.data());
  }
  void Set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
    SetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }
  void Set(cudnnBackendAttributeName_t name, const std::vector<CudnnDescriptor>& values);
  void Finalize();

  template <typename T>
  T Get(cudnnBackendAttributeName_t name) const {
    T value{};
    GetRaw(name, AttributeType<T>(), 1, &value);
    return value;
  }
  /// Fills the descriptor `value` that the caller made.
  void Get(cudnnBackendAttributeName_t name, CudnnDescriptor& value) const {
    GetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }
  /// At most `most` values.
  template <typename T>
  std::vector<T> GetAll(cudnnBackendAttributeName_t name, int64_t most) const {
    std::vector<T> values(static_cast<size_t>(most));
    values.resize(static_cast<size_t>(GetRaw(name, AttributeType<T>(), most, values.data())));
    return values;
  }
  /// Fills descriptors that the caller made; returns how many.
  int64_t GetAll(cudnnBackendAttributeName_t name, std::vector<CudnnDescriptor>& values) const;

  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  void SetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              const void* values);
  int64_t GetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                 void* values) const;

  const Cudnn& cudnn_;
  const std::string& what_;
  cudnnBackendDescriptor_t raw_ = nullptr;
};

}  // namespace cairn::cuda
