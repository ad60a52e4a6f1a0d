#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace cairn {

/// More dimensions than any tensor of a checkpoint has.
inline constexpr size_t kMaxRank = 16;

/// The number of elements of `shape` (1 for a scalar); nothing if a dimension is negative or the
/// product of its non-zero dimensions exceeds 63 bits.
std::optional<uint64_t> CheckedElements(std::span<const int64_t> shape);

/// A rectangle of a tensor: indices [offset, offset + extent) in each dimension.
struct Rectangle {
  std::span<const int64_t> offset;
  std::span<const int64_t> extent;
};

/// Whether `inner` has the rank of `shape`, starts at or after 0 and ends within it.
bool IsInside(const Rectangle& inner, std::span<const int64_t> shape);

/// "" if `tiles` cover a tensor of `shape` exactly once, else what is wrong in words. Tiles must
/// lie inside, and none may be empty, except that a tensor without elements has exactly one tile.
///
/// Tiles are separated by straight cuts, recursively, in O(n log n) for the grids and bands that
/// layouts make; a clump that no cut separates is compared pair by pair up to a few thousand tiles,
/// and refused beyond.
std::string CheckTiling(std::span<const int64_t> shape, std::span<const Rectangle> tiles);

/// A stretch of elements that is contiguous both in a chunk and in a wanted rectangle.
struct CommonRun {
  uint64_t chunk_begin;   ///< in elements, in the chunk's row-major order
  uint64_t wanted_begin;  ///< in elements, in the wanted rectangle's row-major order
  uint64_t length;        ///< in elements
};

/// Calls `visit` for the runs of the intersection of `chunk` and `wanted`, both rectangles of one
/// tensor, with ascending `chunk_begin`; not at all if they do not meet.
void ForEachRun(const Rectangle& chunk, const Rectangle& wanted,
                const std::function<void(const CommonRun&)>& visit);

}  // namespace cairn
