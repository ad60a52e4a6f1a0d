#include "runtime/tensor/shape.h"

#include <fmt/ranges.h>
#include <glog/logging.h>

#include <algorithm>

namespace cairn {

Shape::Shape(std::initializer_list<int64_t> extents)
    : Shape(std::span<const int64_t>(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const int64_t> extents) : rank_(static_cast<int>(extents.size())) {
  CHECK_LE(rank_, kMaxRank);
  std::copy(extents.begin(), extents.end(), extents_.begin());
}

int64_t Shape::numel() const {
  int64_t count = 1;
  for (int64_t extent : extents()) count *= extent;
  return count;
}

std::string Shape::ToString() const { return fmt::format("[{}]", fmt::join(extents(), ", ")); }

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(extents(), other.extents());
}

}  // namespace cairn
