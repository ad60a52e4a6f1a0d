#include "launcher/commands/ckpt_slice.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "runtime/base/error.h"

namespace cairn {
namespace {

std::optional<int64_t> ParseIndex(std::string_view text) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

TensorRequest ParseTensorRequest(const std::string& text) {
  const size_t open = text.find('[');
  if (open == std::string::npos) return {.name = text, .has_slice = false, .slice = ""};
  if (!text.ends_with(']')) {
    Throw(ErrorKind::kUsage, "TENSOR", "\"{}\" has no closing bracket; NAME[0:3,:8] would fit",
          text);
  }
  return {.name = text.substr(0, open),
          .has_slice = true,
          .slice = text.substr(open + 1, text.size() - open - 2)};
}

SliceRange ParseSlice(const std::string& slice, const std::vector<int64_t>& shape) {
  SliceRange range = {.offset = std::vector<int64_t>(shape.size(), 0), .extent = shape};
  const std::string where = "slice [" + slice + "]";
  size_t begin = 0;
  for (size_t d = 0; !slice.empty() && begin <= slice.size(); ++d) {
    const size_t comma = std::min(slice.find(',', begin), slice.size());
    const std::string_view part = std::string_view(slice).substr(begin, comma - begin);
    begin = comma + 1;
    if (d >= shape.size()) {
      Throw(ErrorKind::kUsage, where, "the tensor has only {} dimensions", shape.size());
    }
    // The place of an index; negative ones count from the end.
    const auto place = [&](std::string_view text, int64_t otherwise) {
      if (text.empty()) return otherwise;
      const std::optional<int64_t> index = ParseIndex(text);
      if (!index) {
        Throw(ErrorKind::kUsage, where, "\"{}\" is no index; 3, 0:3, :8 and -2: are", part);
      }
      const int64_t from_start = *index < 0 ? *index + shape[d] : *index;
      if (from_start < 0 || from_start > shape[d]) {
        Throw(ErrorKind::kUsage, where, "{} is outside dimension {}, which has size {}", *index, d,
              shape[d]);
      }
      return from_start;
    };
    const size_t colon = part.find(':');
    const int64_t first = place(part.substr(0, colon), 0);
    const int64_t end =
        colon == std::string_view::npos ? first + 1 : place(part.substr(colon + 1), shape[d]);
    if (part.empty() || end > shape[d] || end < first) {
      Throw(ErrorKind::kUsage, where, "\"{}\" names no part of dimension {}, which has size {}",
            part, d, shape[d]);
    }
    range.offset[d] = first;
    range.extent[d] = end - first;
  }
  return range;
}

}  // namespace cairn
