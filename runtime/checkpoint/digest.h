#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct XXH3_state_s;
struct evp_md_ctx_st;

namespace cairn {

/// A checkpoint's data carries one CRC32C for each piece of this many bytes (the last is shorter).
inline constexpr uint64_t kCrcBlockBytes = uint64_t{4} << 20;

/// CRC32C (Castagnoli, RFC 3720 B.4) of `bytes`; "123456789" gives 0xE3069283.
uint32_t Crc32c(std::span<const std::byte> bytes);

/// How many CRC blocks `bytes` bytes have.
constexpr uint64_t CrcBlockCount(uint64_t bytes) {
  return bytes / kCrcBlockBytes + (bytes % kCrcBlockBytes != 0 ? 1 : 0);
}

/// XXH3-128 of a stream of bytes.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;

  void Update(std::span<const std::byte> bytes);
  /// 32 lower-case hexadecimal digits in the canonical (big-endian) order that `xxh128sum` prints.
  std::string HexDigest() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const noexcept;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

/// SHA-256 of a stream of bytes.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;

  void Update(std::span<const std::byte> bytes);
  /// 64 lower-case hexadecimal digits; ends the stream.
  std::string HexDigest();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// SHA-256 of `bytes`, as 64 lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

}  // namespace cairn
