#include "runtime/checkpoint/digest.h"

#include <fmt/format.h>
#include <glog/logging.h>
#include <isa-l/crc.h>
#include <openssl/evp.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>  // the widest vectors of the machine, not of the build
#endif

#include <algorithm>
#include <array>
#include <new>

namespace cairn {
namespace {

std::string Hex(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", byte);
  return text;
}

}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes) {
  // ISA-L leaves both inversions to the caller, does not write through its pointer, and counts in
  // int: hence pieces.
  constexpr size_t kPiece = size_t{1} << 30;
  uint32_t crc = ~uint32_t{0};
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(bytes.size(), kPiece));
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(piece.data()));
    crc = crc32_iscsi(data, static_cast<int>(piece.size()), crc);
    bytes = bytes.subspan(piece.size());
  }
  return ~crc;
}

void Xxh3Stream::Free::operator()(XXH3_state_s* state) const noexcept { XXH3_freeState(state); }

Xxh3Stream::Xxh3Stream() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  CHECK_EQ(XXH3_128bits_reset(state_.get()), XXH_OK);
}

Xxh3Stream::~Xxh3Stream() = default;

void Xxh3Stream::Update(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  CHECK_EQ(XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()), XXH_OK);
}

std::string Xxh3Stream::HexDigest() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
  return Hex(canonical.digest);
}

void Sha256Stream::Free::operator()(evp_md_ctx_st* context) const noexcept {
  EVP_MD_CTX_free(context);
}

Sha256Stream::Sha256Stream() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  CHECK_EQ(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr), 1);
}

Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::Update(std::span<const std::byte> bytes) {
  CHECK_EQ(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()), 1);
}

std::string Sha256Stream::HexDigest() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest = {};
  unsigned int size = 0;
  CHECK_EQ(EVP_DigestFinal_ex(context_.get(), digest.data(), &size), 1);
  return Hex(std::span(digest).first(size));
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256Stream stream;
  stream.Update(std::as_bytes(std::span(bytes)));
  return stream.HexDigest();
}

}  // namespace cairn
