#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/data/utf8.h"

namespace cairn {

/// How GPT-2 writes bytes as text: printable bytes as the characters of Latin-1, the others,
/// ascending, as U+0100 and up.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    bytes_.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                             (byte >= 0xAE && byte <= 0xFF);
      codes_[byte] = printable ? byte : next++;
      bytes_[codes_[byte]] = static_cast<int16_t>(byte);
    }
  }

  /// The bytes that `token` stands for; nothing when it holds a character that stands for none.
  std::optional<std::string> ToBytes(std::string_view token) const {
    std::string bytes;
    while (!token.empty()) {
      const size_t length = Utf8CharacterLength(token);
      if (length == 0 || length > 2) return std::nullopt;
      size_t code = static_cast<unsigned char>(token[0]);
      if (length == 2) code = (code & 0x1F) << 6 | (static_cast<unsigned char>(token[1]) & 0x3F);
      if (code >= bytes_.size() || bytes_[code] < 0) return std::nullopt;
      bytes += static_cast<char>(bytes_[code]);
      token.remove_prefix(length);
    }
    return bytes;
  }

  /// The inverse, as UTF-8.
  std::string ToText(std::string_view bytes) const {
    std::string text;
    for (const char byte : bytes) {
      const int code = codes_[static_cast<unsigned char>(byte)];
      if (code < 0x80) {
        text += static_cast<char>(code);
      } else {
        text += static_cast<char>(0xC0 | code >> 6);
        text += static_cast<char>(0x80 | (code & 0x3F));
      }
    }
    return text;
  }

 private:
  std::array<int16_t, 0x100 + 68> bytes_;  // by code point
  std::array<int, 256> codes_;             // by byte
};

}  // namespace cairn
