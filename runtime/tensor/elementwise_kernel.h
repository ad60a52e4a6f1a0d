#pragma once

#include <cstdint>
#include <type_traits>

#include "runtime/tensor/dtype.h"
#include "runtime/tensor/tensor.h"

namespace cairn {

/// a + b rounded to D once: in fp64 where all are, else in fp32.
template <typename D, typename A, typename B>
CAIRN_HOST_DEVICE inline D Sum(A a, B b) {
  if constexpr (std::is_same_v<D, double>) {
    return a + b;
  } else {
    return D(static_cast<float>(a) + static_cast<float>(b));
  }
}

/// Shape and strides of a copy between two strided tensors.
struct CopyLayout {
  int rank;
  int64_t extent[Shape::kMaxRank];
  int64_t to_stride[Shape::kMaxRank];
  int64_t from_stride[Shape::kMaxRank];
};

/// Offsets of one element in both tensors.
struct CopyPlace {
  int64_t to;
  int64_t from;
};

/// The layout of a copy between two tensors of one shape. Dimensions that follow each other without
/// a gap in both are one.
CopyLayout MakeCopyLayout(const Tensor& destination, const Tensor& source);

/// Where the element of row-major index `i` is.
CAIRN_HOST_DEVICE inline CopyPlace PlaceOf(const CopyLayout& layout, int64_t i) {
  CopyPlace place{0, 0};
  for (int d = layout.rank - 1; d >= 0; --d) {
    const int64_t at = i % layout.extent[d];
    i /= layout.extent[d];
    place.to += at * layout.to_stride[d];
    place.from += at * layout.from_stride[d];
  }
  return place;
}

}  // namespace cairn
