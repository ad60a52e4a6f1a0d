#pragma once

#include <cstdint>
#include <vector>

#include "runtime/tensor/shape.h"

namespace cairn {

/// A box of a global tensor: `extent[i]` elements from `offset[i]` along each dimension.
struct Rectangle {
  Shape offset;
  Shape extent;

  int64_t numel() const { return extent.numel(); }
  bool operator==(const Rectangle&) const = default;
};

/// Which rectangle of a global (logical) tensor a rank holds. Checkpoints, initialisation and
/// optimizer sharding all read this one truth. A rank may allocate more rows than it holds
/// (vocabulary padding): rows of the outermost dimension at and after `held.extent[0]` belong to no
/// logical element and stay zero.
struct ShardSpec {
  Shape global_shape;
  Shape local_shape;  ///< as allocated; equals held.extent except for padding rows
  Rectangle held;

  /// Nothing is cut.
  static ShardSpec Replicated(const Shape& shape);
  /// Dimension `dim` is cut into `parts` equal pieces; this is piece `index`. Throws Error(kConfig)
  /// when the dimension does not divide.
  static ShardSpec Split(const Shape& shape, int dim, int parts, int index);
  /// The outermost dimension, padded to `padded_rows` (a multiple of parts), is cut into `parts`;
  /// pieces hold what is left of the logical rows, possibly none.
  static ShardSpec SplitPadded(const Shape& shape, int64_t padded_rows, int parts, int index);

  /// The elements [begin, end) of the flattened local tensor as disjoint rectangles of the global
  /// tensor, in flat order, padding left out: how a flat optimizer shard appears in a checkpoint.
  /// At most 2 * rank - 1 rectangles. `local_offset`, if given, receives for each rectangle the
  /// flat local index of its first element; a rectangle's elements are contiguous there.
  std::vector<Rectangle> FlatRange(int64_t begin, int64_t end,
                                   std::vector<int64_t>* local_offset = nullptr) const;
};

/// The common part of two rectangles of the same tensor; numel() 0 when there is none.
Rectangle Intersect(const Rectangle& a, const Rectangle& b);

}  // namespace cairn
