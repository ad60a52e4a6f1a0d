#include "launcher/commands/ckpt_values.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "runtime/base/error.h"

namespace cairn {
namespace {

template <typename T>
T Load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// A binary float of 1 sign bit, `exponent_bits` and `mantissa_bits`, in IEEE's manner except that
// only some formats have infinities.
float DecodeFloat(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const uint32_t mantissa = bits & ((1U << mantissa_bits) - 1);
  const uint32_t top = (1U << exponent_bits) - 1;
  const uint32_t exponent = (bits >> mantissa_bits) & top;
  const int bias = static_cast<int>(top >> 1);
  float value = 0;
  if (exponent == top && has_infinity) {
    value = mantissa == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == top && mantissa == (1U << mantissa_bits) - 1) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
  } else {
    value = std::ldexp(static_cast<float>(mantissa | (1U << mantissa_bits)),
                       static_cast<int>(exponent) - bias - mantissa_bits);
  }
  return (bits >> (exponent_bits + mantissa_bits)) != 0 ? -value : value;
}

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

ElementValue DecodeElement(std::string_view dtype, const std::byte* bytes) {
  if (dtype == "F32") return Load<float>(bytes);
  if (dtype == "BF16") return std::bit_cast<float>(uint32_t{Load<uint16_t>(bytes)} << 16);
  if (dtype == "F16") return DecodeFloat(Load<uint16_t>(bytes), 5, 10, true);
  if (dtype == "F64") return Load<double>(bytes);
  if (dtype == "F8_E5M2") return DecodeFloat(Load<uint8_t>(bytes), 5, 2, true);
  if (dtype == "F8_E4M3") return DecodeFloat(Load<uint8_t>(bytes), 4, 3, false);
  if (dtype == "I64") return Load<int64_t>(bytes);
  if (dtype == "I32") return int64_t{Load<int32_t>(bytes)};
  if (dtype == "I16") return int64_t{Load<int16_t>(bytes)};
  if (dtype == "I8") return int64_t{Load<int8_t>(bytes)};
  if (dtype == "U64") return Load<uint64_t>(bytes);
  if (dtype == "U32") return uint64_t{Load<uint32_t>(bytes)};
  if (dtype == "U16") return uint64_t{Load<uint16_t>(bytes)};
  if (dtype == "U8") return uint64_t{Load<uint8_t>(bytes)};
  if (dtype == "BOOL") return Load<uint8_t>(bytes) != 0;
  Throw(ErrorKind::kUsage, "TENSOR", "values of dtype {} cannot be shown", dtype);
}

}  // namespace cairn
