#include "runtime/tensor/tensor.h"

#include <glog/logging.h>

#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

Shape ContiguousStrides(const Shape& shape) {
  Shape strides = shape;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

}  // namespace

Storage::Storage(Device& device, size_t bytes, MemoryCategory category)
    : device_(&device),
      data_(device.allocator().Allocate(bytes, category)),
      bytes_(bytes),
      category_(category) {}

Storage::~Storage() { device_->allocator().Free(data_, bytes_, category_); }

Tensor Tensor::Empty(const Shape& shape, DType dtype, Device& device, MemoryCategory category) {
  Tensor tensor;
  tensor.storage_ = std::make_shared<Storage>(
      device, static_cast<size_t>(shape.numel()) * DTypeSize(dtype), category);
  tensor.shape_ = shape;
  tensor.strides_ = ContiguousStrides(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::Zeros(const Shape& shape, DType dtype, Device& device, MemoryCategory category) {
  Tensor tensor = Empty(shape, dtype, device, category);
  FillZero(tensor);
  return tensor;
}

Tensor Tensor::FromHostBytes(const void* data, size_t bytes, const Shape& shape, DType dtype,
                             Device& device, MemoryCategory category) {
  Tensor tensor = Empty(shape, dtype, device, category);
  CHECK_EQ(bytes, tensor.bytes());
  if (!tensor.on_meta()) {
    device.Copy(tensor.raw(), data, bytes, device.compute_stream());
    device.compute_stream().Synchronize();
  }
  return tensor;
}

void Tensor::ToHostBytes(void* destination) const {
  CHECK(!on_meta()) << "a meta tensor has no elements";
  const Tensor source = contiguous() ? *this : ContiguousCopy(*this);
  device().Copy(destination, source.raw(), source.bytes(), device().compute_stream());
  device().compute_stream().Synchronize();
}

void Tensor::CheckDType(DType wanted) const {
  CHECK(dtype_ == wanted) << "tensor of " << DTypeName(dtype_) << " read as " << DTypeName(wanted);
}

bool Tensor::contiguous() const {
  int64_t expected = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] == 1) continue;
    if (strides_[i] != expected) return false;
    expected *= shape_[i];
  }
  return true;
}

void* Tensor::raw() const {
  CHECK(defined());
  if (storage_->data() == nullptr) return nullptr;
  return static_cast<std::byte*>(storage_->data()) +
         static_cast<size_t>(offset_) * DTypeSize(dtype_);
}

Tensor Tensor::View(const Shape& shape) const {
  CHECK(contiguous());
  CHECK_EQ(shape.numel(), numel()) << shape_.ToString() << " as " << shape.ToString();
  Tensor view = *this;
  view.shape_ = shape;
  view.strides_ = ContiguousStrides(shape);
  return view;
}

Tensor Tensor::Narrow(int dim, int64_t start, int64_t length) const {
  CHECK(dim >= 0 && dim < rank());
  CHECK(start >= 0 && length >= 0 && start + length <= shape_[dim])
      << start << "+" << length << " of " << shape_.ToString();
  Tensor view = *this;
  view.shape_[dim] = length;
  view.offset_ += start * strides_[dim];
  return view;
}

Tensor Tensor::Select(int64_t index) const {
  CHECK_GE(rank(), 1);
  Tensor narrowed = Narrow(0, index, 1);
  Tensor view = narrowed;
  view.shape_ = Shape(narrowed.shape_.extents().subspan(1));
  view.strides_ = Shape(narrowed.strides_.extents().subspan(1));
  return view;
}

Tensor Tensor::EmptyLike(MemoryCategory category) const {
  return Empty(shape_, dtype_, device(), category);
}

}  // namespace cairn
