#include "runtime/checkpoint/digest.h"

#include <gtest/gtest.h>

#include <string_view>

namespace cairn {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(DigestTest, Crc32cHasTheStandardCheckValues) {
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(Crc32c({}), 0U);
  EXPECT_EQ(Crc32c(Bytes(std::string(32, '\0'))), 0x8A9136AAU);  // RFC 3720 B.4
  EXPECT_EQ(Crc32c(Bytes(std::string(32, '\xff'))), 0x62A8AB43U);
}

TEST(DigestTest, CrcBlocksRoundUp) {
  EXPECT_EQ(CrcBlockCount(0), 0U);
  EXPECT_EQ(CrcBlockCount(1), 1U);
  EXPECT_EQ(CrcBlockCount(kCrcBlockBytes), 1U);
  EXPECT_EQ(CrcBlockCount(kCrcBlockBytes + 1), 2U);
}

TEST(DigestTest, Xxh3IsThatOfTheWholeWhateverThePieces) {
  Xxh3Stream empty;
  EXPECT_EQ(empty.HexDigest(), "99aa06d3014798d86001c324468d497f");
  Xxh3Stream once;
  once.Update(Bytes("123456789"));
  Xxh3Stream pieces;
  pieces.Update(Bytes("1234"));
  pieces.Update({});
  pieces.Update(Bytes("56789"));
  EXPECT_EQ(once.HexDigest(), pieces.HexDigest());
  EXPECT_NE(once.HexDigest(), empty.HexDigest());
}

TEST(DigestTest, Sha256HasTheStandardCheckValues) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace cairn
