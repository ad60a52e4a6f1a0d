#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// The token at which documents end in the GPT family.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";
/// More ids than any vocabulary has: bounds what a damaged tokenizer file makes us allocate.
inline constexpr int64_t kMaxVocabularySize = int64_t{1} << 22;

/// The bytes that the ids stand for, one after the other. Throws kData for an id outside `pieces`.
std::string JoinPieces(std::span<const std::string> pieces, std::span<const int32_t> ids);

}  // namespace cairn
