#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cairn {

/// "name" or "name[slice]" as a user writes it.
struct TensorRequest {
  std::string name;
  bool has_slice = false;
  std::string slice;  ///< between the brackets
};

/// Splits at the bracket; an Error of kind kUsage if the brackets do not match.
TensorRequest ParseTensorRequest(const std::string& text);

/// Which part of a tensor a slice names.
struct SliceRange {
  std::vector<int64_t> offset;
  std::vector<int64_t> extent;
};

/// Reads "0:3,:8,-1" as NumPy would for a tensor of `shape`, without steps; a single index keeps
/// its dimension, dimensions that are not named are whole. Unlike NumPy's, an index outside is an
/// Error of kind kUsage.
SliceRange ParseSlice(const std::string& slice, const std::vector<int64_t>& shape);

}  // namespace cairn
