#pragma once

#include <string>

#include "runtime/checkpoint/manifest.h"

namespace cairn {

/// A tensor's rectangles drawn to scale, as far as lines of text allow, each with the number of the
/// shard that holds it:
///
///         0         512      1024
///       0 +---------+---------+
///         | 0       | 1       |
///     256 +---------+---------+
///
/// Of more than two dimensions, those are drawn that are cut. "" if more are cut, or too finely.
std::string PictureOfChunks(const TensorEntry& tensor);

}  // namespace cairn
