#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/device/device.h"
#include "runtime/tensor/dtype.h"
#include "runtime/tensor/shape.h"

namespace cairn {

/// Memory of one device, shared by the tensors that view it; returned to the device's allocator
/// when the last one goes.
class Storage {
 public:
  Storage(Device& device, size_t bytes, MemoryCategory category);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return *device_; }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Device* device_;
  void* data_;
  size_t bytes_;
  MemoryCategory category_;
};

/// A strided view over shared storage. Copying a Tensor copies the view, not the elements. On
/// `meta` it has a shape and no data.
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised, contiguous. Throws Error(kOutOfMemory).
  static Tensor Empty(const Shape& shape, DType dtype, Device& device,
                      MemoryCategory category = MemoryCategory::kActivations);
  static Tensor Zeros(const Shape& shape, DType dtype, Device& device,
                      MemoryCategory category = MemoryCategory::kActivations);
  /// A contiguous copy of host elements.
  template <typename T>
  static Tensor FromHost(std::span<const T> elements, const Shape& shape, Device& device,
                         MemoryCategory category = MemoryCategory::kActivations) {
    return FromHostBytes(elements.data(), elements.size_bytes(), shape, DTypeOf<T>::kValue, device,
                         category);
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const { return shape_[i < 0 ? i + shape_.rank() : i]; }
  int64_t stride(int i) const { return strides_[i < 0 ? i + shape_.rank() : i]; }  ///< in elements
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * DTypeSize(dtype_); }
  DType dtype() const { return dtype_; }
  Device& device() const { return storage_->device(); }
  bool on_meta() const { return device().kind() == DeviceKind::kMeta; }
  bool contiguous() const;

  /// The first element; nullptr on meta.
  void* raw() const;
  template <typename T>
  T* data() const {
    CheckDType(DTypeOf<T>::kValue);
    return static_cast<T*>(raw());
  }

  /// Same elements, another shape of the same count (contiguous tensors only).
  Tensor View(const Shape& shape) const;
  /// Elements [start, start + length) along `dim`.
  Tensor Narrow(int dim, int64_t start, int64_t length) const;
  /// Entry `index` of the outermost dimension, which is dropped.
  Tensor Select(int64_t index) const;
  /// An uninitialised contiguous tensor of this one's shape, dtype and device.
  Tensor EmptyLike(MemoryCategory category = MemoryCategory::kActivations) const;

  /// The elements on the host, in row-major order; waits for the compute stream.
  template <typename T>
  std::vector<T> ToHost() const {
    CheckDType(DTypeOf<T>::kValue);
    std::vector<T> elements(static_cast<size_t>(numel()));
    ToHostBytes(elements.data());
    return elements;
  }

 private:
  static Tensor FromHostBytes(const void* data, size_t bytes, const Shape& shape, DType dtype,
                              Device& device, MemoryCategory category);
  void ToHostBytes(void* destination) const;
  void CheckDType(DType wanted) const;

  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // elements
  Shape shape_;
  Shape strides_;  // elements; same rank as shape_
  DType dtype_ = DType::kFloat32;
};

}  // namespace cairn
