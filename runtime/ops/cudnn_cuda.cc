#include "runtime/ops/cudnn_cuda.h"

#include <array>

#include "runtime/base/error.h"
#include "runtime/base/shared_library.h"

namespace cairn::cuda {

Cudnn::Cudnn() {
  const SharedLibrary library("libcudnn.so.9", "it is NVIDIA's cuDNN 9; `cairn doctor`");
  library.Find("cudnnGetVersion", version);
  library.Find("cudnnGetErrorString", error_string);
  library.Find("cudnnGetLastErrorString", last_error_string);
  library.Find("cudnnCreate", create);
  library.Find("cudnnDestroy", destroy);
  library.Find("cudnnSetStream", set_stream);
  library.Find("cudnnBackendCreateDescriptor", descriptor_create);
  library.Find("cudnnBackendDestroyDescriptor", descriptor_destroy);
  library.Find("cudnnBackendSetAttribute", set_attribute);
  library.Find("cudnnBackendGetAttribute", get_attribute);
  library.Find("cudnnBackendFinalize", finalize);
  library.Find("cudnnBackendExecute", execute);
}

void Cudnn::Check(cudnnStatus_t code, const char* call, const std::string& what) const {
  if (code == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 1024> details{};
  last_error_string(details.data(), details.size());
  details.back() = '\0';
  Throw(ErrorKind::kDevice, fmt::format("cuDNN {}", call), "{}, for {}{}{}", error_string(code),
        what, details[0] != '\0' ? ": " : "", details.data());
}

CudnnDescriptor::CudnnDescriptor(const Cudnn& cudnn, cudnnBackendDescriptorType_t type,
                                 const std::string& what)
    : cudnn_(cudnn), what_(what) {
  cudnn_.Check(cudnn_.descriptor_create(type, &raw_), "cudnnBackendCreateDescriptor", what_);
}

CudnnDescriptor::~CudnnDescriptor() {
  if (raw_ != nullptr) (void)cudnn_.descriptor_destroy(raw_);
}

void CudnnDescriptor::Set(cudnnBackendAttributeName_t name,
                          const std::vector<CudnnDescriptor>& values) {
  std::vector<cudnnBackendDescriptor_t> raw;
  raw.reserve(values.size());
  for (const CudnnDescriptor& value : values) raw.push_back(value.raw_);
  SetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
}

void CudnnDescriptor::Finalize() {
  cudnn_.Check(cudnn_.finalize(raw_), "cudnnBackendFinalize", what_);
}

int64_t CudnnDescriptor::GetAll(cudnnBackendAttributeName_t name,
                                std::vector<CudnnDescriptor>& values) const {
  std::vector<cudnnBackendDescriptor_t> raw;
  raw.reserve(values.size());
  for (const CudnnDescriptor& value : values) raw.push_back(value.raw_);
  return GetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
}

void CudnnDescriptor::SetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                             int64_t count, const void* values) {
  const cudnnStatus_t code = cudnn_.set_attribute(raw_, name, type, count, values);
  if (code == CUDNN_STATUS_SUCCESS) return;
  cudnn_.Check(code, "cudnnBackendSetAttribute",
               fmt::format("attribute {} of {}", static_cast<int>(name), what_));
}

int64_t CudnnDescriptor::GetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                int64_t count, void* values) const {
  int64_t found = 0;
  const cudnnStatus_t code = cudnn_.get_attribute(raw_, name, type, count, &found, values);
  if (code != CUDNN_STATUS_SUCCESS) {
    cudnn_.Check(code, "cudnnBackendGetAttribute",
                 fmt::format("attribute {} of {}", static_cast<int>(name), what_));
  }
  return found;
}

}  // namespace cairn::cuda
