#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cairn {

/// Offset of the first byte that is not plain UTF-8 text (a control character other than tab and
/// line ends counts as not plain), or `text.size()`.
size_t FirstBadByte(std::string_view text);

/// `text` for a one-line message: what is not plain becomes \xNN, and it is cut to `limit` bytes.
std::string Printable(std::string_view text, size_t limit = 80);

/// Printable text between backquotes.
std::string Quoted(std::string_view text);

/// The candidate that `word` was most likely meant to be: the one at the smallest
/// Damerau-Levenshtein distance (case ignored, up to a third of the word), else the only one that
/// contains it. Nothing when none is near.
std::optional<std::string> ClosestName(std::string_view word,
                                       std::span<const std::string> candidates);

/// "; did you mean `x`?" where ClosestName finds an x, else "".
std::string DidYouMean(std::string_view word, std::span<const std::string> candidates);

}  // namespace cairn
