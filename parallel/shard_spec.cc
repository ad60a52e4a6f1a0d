#include "parallel/shard_spec.h"

#include <glog/logging.h>

#include <algorithm>

#include "runtime/base/error.h"

namespace cairn {
namespace {

// Elements of one index step along each dimension of a contiguous box.
Shape FlatSteps(const Shape& extent) {
  Shape steps = extent;
  int64_t step = 1;
  for (int d = extent.rank() - 1; d >= 0; --d) {
    steps[d] = step;
    step *= extent[d];
  }
  return steps;
}

Shape Origin(const Shape& shape) {
  Shape origin = shape;
  for (int d = 0; d < shape.rank(); ++d) origin[d] = 0;
  return origin;
}

void CheckPiece(const Shape& shape, int parts, int index) {
  CHECK(parts >= 1 && index >= 0 && index < parts)
      << "piece " << index << " of " << parts << " of " << shape.ToString();
}

}  // namespace

ShardSpec ShardSpec::Replicated(const Shape& shape) {
  return {shape, shape, {Origin(shape), shape}};
}

ShardSpec ShardSpec::Split(const Shape& shape, int dim, int parts, int index) {
  CheckPiece(shape, parts, index);
  CHECK(dim >= 0 && dim < shape.rank()) << dim << " of " << shape.ToString();
  if (shape[dim] % parts != 0) {
    Throw(ErrorKind::kConfig, fmt::format("dimension {} of {}", dim, shape.ToString()),
          "{} elements cannot be cut into {} equal parts; use a multiple of {}", shape[dim], parts,
          parts);
  }
  ShardSpec spec = Replicated(shape);
  spec.local_shape[dim] = shape[dim] / parts;
  spec.held.extent[dim] = spec.local_shape[dim];
  spec.held.offset[dim] = spec.local_shape[dim] * index;
  return spec;
}

ShardSpec ShardSpec::SplitPadded(const Shape& shape, int64_t padded_rows, int parts, int index) {
  CheckPiece(shape, parts, index);
  CHECK_GE(shape.rank(), 1);
  const int64_t rows = shape[0];
  if (padded_rows < rows || padded_rows % parts != 0) {
    Throw(ErrorKind::kConfig, fmt::format("dimension 0 of {}", shape.ToString()),
          "{} padded rows do not fit: a multiple of {} that is at least {} does", padded_rows,
          parts, rows);
  }
  ShardSpec spec = Replicated(shape);
  const int64_t piece = padded_rows / parts;
  spec.local_shape[0] = piece;
  spec.held.offset[0] = std::min(piece * index, rows);
  spec.held.extent[0] = std::min(piece, rows - spec.held.offset[0]);
  return spec;
}

std::vector<Rectangle> ShardSpec::FlatRange(int64_t begin, int64_t end,
                                            std::vector<int64_t>* local_offset) const {
  CHECK(begin >= 0 && begin <= end && end <= local_shape.numel())
      << "[" << begin << ", " << end << ") of " << local_shape.ToString();
  if (local_offset != nullptr) local_offset->clear();
  std::vector<Rectangle> rectangles;
  // Padding rows come last in the flat order.
  end = std::min(end, held.numel());
  const Shape steps = FlatSteps(held.extent);
  for (int64_t flat = begin; flat < end;) {
    Rectangle rectangle{held.offset, held.extent};
    int64_t length = 1;
    // Dimensions outside of the one that this rectangle spans stand still. It spans the outermost
    // one of which a whole index step starts here and still fits.
    int64_t rest = flat;
    for (int d = 0; d < steps.rank(); ++d) {
      const int64_t index = rest / steps[d];
      rest %= steps[d];
      rectangle.offset[d] += index;
      rectangle.extent[d] = 1;
      if (rest == 0 && flat + steps[d] <= end) {
        rectangle.extent[d] = std::min((end - flat) / steps[d], held.extent[d] - index);
        length = rectangle.extent[d] * steps[d];
        break;
      }
    }
    rectangles.push_back(rectangle);
    if (local_offset != nullptr) local_offset->push_back(flat);
    flat += length;
  }
  return rectangles;
}

Rectangle Intersect(const Rectangle& a, const Rectangle& b) {
  CHECK_EQ(a.extent.rank(), b.extent.rank());
  Rectangle common = a;
  for (int d = 0; d < a.extent.rank(); ++d) {
    const int64_t begin = std::max(a.offset[d], b.offset[d]);
    const int64_t end = std::min(a.offset[d] + a.extent[d], b.offset[d] + b.extent[d]);
    common.offset[d] = begin;
    common.extent[d] = std::max<int64_t>(end - begin, 0);
  }
  return common;
}

}  // namespace cairn
