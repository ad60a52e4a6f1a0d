#pragma once

#include <cstddef>
#include <string_view>

namespace cairn {

/// Bytes of the well-formed UTF-8 character that `text` begins with (1 to 4), or 0: no overlong
/// forms, no surrogates, nothing above U+10FFFF (Unicode 14.0, table 3-7).
inline size_t Utf8CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto tail = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  if (text.empty()) return 0;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4 || !tail(1)) return 0;
  if (lead < 0xE0) return 2;
  if (!tail(2)) return 0;
  if (lead < 0xF0) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  const bool overlong = lead == 0xF0 && byte(1) < 0x90;
  const bool beyond = lead == 0xF4 && byte(1) >= 0x90;
  return !tail(3) || overlong || beyond ? 0 : 4;
}

/// Bytes at the front of `text` that are well-formed UTF-8.
inline size_t Utf8PrefixLength(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    const size_t length = Utf8CharacterLength(text.substr(end));
    if (length == 0) break;
    end += length;
  }
  return end;
}

}  // namespace cairn
