#include "runtime/checkpoint/tiling.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace cairn {
namespace {

using Index = uint32_t;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxClump = 4096;

std::string Describe(const Rectangle& tile) {
  return fmt::format("[{}]+[{}]", fmt::join(tile.offset, ","), fmt::join(tile.extent, ","));
}

bool Overlap(const Rectangle& a, const Rectangle& b) {
  for (size_t d = 0; d < a.offset.size(); ++d) {
    if (a.offset[d] >= b.offset[d] + b.extent[d] || b.offset[d] >= a.offset[d] + a.extent[d]) {
      return false;
    }
  }
  return true;
}

// Finds overlaps by cutting sets of tiles apart along one dimension after another.
class OverlapFinder {
 public:
  OverlapFinder(size_t rank, std::span<const Rectangle> tiles) : rank_(rank), tiles_(tiles) {}

  // "" if no two of `members` overlap. `first` is the dimension to try first.
  std::string Find(std::span<Index> members, size_t first, int depth) const {
    if (members.size() < 2) return "";
    if (depth < kMaxDepth) {
      for (size_t i = 0; i < rank_; ++i) {
        const size_t dimension = (first + i) % rank_;
        const std::vector<size_t> ends = Cut(members, dimension);
        if (ends.size() < 2) continue;
        size_t begin = 0;
        for (const size_t end : ends) {
          const auto group = members.subspan(begin, end - begin);
          std::string problem = Find(group, (dimension + 1) % rank_, depth + 1);
          if (!problem.empty()) return problem;
          begin = end;
        }
        return "";
      }
    }
    return ComparePairs(members);
  }

 private:
  // Sorts `members` along `dimension`; returns the end of each group that a straight cut separates.
  std::vector<size_t> Cut(std::span<Index> members, size_t dimension) const {
    std::ranges::sort(members, {}, [&](Index i) { return tiles_[i].offset[dimension]; });
    std::vector<size_t> ends;
    int64_t reach = std::numeric_limits<int64_t>::min();
    for (size_t i = 0; i < members.size(); ++i) {
      const Rectangle& tile = tiles_[members[i]];
      if (i > 0 && tile.offset[dimension] >= reach) ends.push_back(i);
      reach = std::max(reach, tile.offset[dimension] + tile.extent[dimension]);
    }
    ends.push_back(members.size());
    return ends;
  }

  std::string ComparePairs(std::span<const Index> members) const {
    if (members.size() > kMaxClump) {
      return fmt::format("{} chunks that no straight cut separates, at most {} are accepted",
                         members.size(), kMaxClump);
    }
    for (size_t i = 0; i < members.size(); ++i) {
      for (size_t j = i + 1; j < members.size(); ++j) {
        const Rectangle& a = tiles_[members[i]];
        const Rectangle& b = tiles_[members[j]];
        if (Overlap(a, b)) {
          return fmt::format("chunks {} and {} overlap", Describe(a), Describe(b));
        }
      }
    }
    return "";
  }

  size_t rank_;
  std::span<const Rectangle> tiles_;
};

}  // namespace

std::optional<uint64_t> CheckedElements(std::span<const int64_t> shape) {
  int64_t product = 1;
  bool empty = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(product, dimension, &product)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

bool IsInside(const Rectangle& inner, std::span<const int64_t> shape) {
  if (inner.offset.size() != shape.size() || inner.extent.size() != shape.size()) return false;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (inner.offset[d] < 0 || inner.extent[d] < 0) return false;
    if (inner.offset[d] > shape[d] || inner.extent[d] > shape[d] - inner.offset[d]) return false;
  }
  return true;
}

std::string CheckTiling(std::span<const int64_t> shape, std::span<const Rectangle> tiles) {
  const std::optional<uint64_t> total = CheckedElements(shape);
  if (!total) return fmt::format("shape [{}] is not valid", fmt::join(shape, ","));
  // No two tiles of `tiles` overlap and their sizes add up to the whole: then they cover it.
  uint64_t covered = 0;
  for (const Rectangle& tile : tiles) {
    if (!IsInside(tile, shape)) {
      return fmt::format("chunk {} is not inside shape [{}]", Describe(tile),
                         fmt::join(shape, ","));
    }
    const uint64_t elements = CheckedElements(tile.extent).value_or(0);
    if (elements == 0 && *total != 0) return fmt::format("chunk {} is empty", Describe(tile));
    if (__builtin_add_overflow(covered, elements, &covered) || covered > *total) {
      return fmt::format("chunks overlap: they have more than the {} elements of shape [{}]",
                         *total, fmt::join(shape, ","));
    }
  }
  if (covered < *total) {
    return fmt::format("chunks leave a hole: they have {} of the {} elements of shape [{}]",
                       covered, *total, fmt::join(shape, ","));
  }
  if (*total == 0) {
    if (tiles.size() == 1 && std::ranges::equal(tiles[0].extent, shape)) return "";
    return fmt::format("a tensor without elements has one chunk, not {}", tiles.size());
  }
  if (tiles.size() > std::numeric_limits<Index>::max()) return "too many chunks";
  std::vector<Index> members(tiles.size());
  for (size_t i = 0; i < members.size(); ++i) members[i] = static_cast<Index>(i);
  return OverlapFinder(shape.size(), tiles).Find(members, 0, 0);
}

void ForEachRun(const Rectangle& chunk, const Rectangle& wanted,
                const std::function<void(const CommonRun&)>& visit) {
  const size_t rank = chunk.offset.size();
  // The intersection, relative to each of the two rectangles.
  std::array<int64_t, kMaxRank> in_chunk = {};
  std::array<int64_t, kMaxRank> in_wanted = {};
  std::array<int64_t, kMaxRank> size = {};
  for (size_t d = 0; d < rank; ++d) {
    const int64_t begin = std::max(chunk.offset[d], wanted.offset[d]);
    const int64_t end =
        std::min(chunk.offset[d] + chunk.extent[d], wanted.offset[d] + wanted.extent[d]);
    if (begin >= end) return;
    in_chunk[d] = begin - chunk.offset[d];
    in_wanted[d] = begin - wanted.offset[d];
    size[d] = end - begin;
  }

  // Trailing dimensions that are whole on both sides join the run; so does the one before them.
  size_t outer = rank;
  uint64_t length = 1;
  while (outer > 0) {
    --outer;
    length *= static_cast<uint64_t>(size[outer]);
    if (size[outer] != chunk.extent[outer] || size[outer] != wanted.extent[outer]) break;
  }

  std::array<int64_t, kMaxRank> index = {};
  while (true) {
    CommonRun run = {0, 0, length};
    for (size_t d = 0; d < rank; ++d) {
      run.chunk_begin = run.chunk_begin * static_cast<uint64_t>(chunk.extent[d]) +
                        static_cast<uint64_t>(in_chunk[d] + index[d]);
      run.wanted_begin = run.wanted_begin * static_cast<uint64_t>(wanted.extent[d]) +
                         static_cast<uint64_t>(in_wanted[d] + index[d]);
    }
    visit(run);
    size_t d = outer;
    while (d > 0 && ++index[d - 1] == size[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace cairn
