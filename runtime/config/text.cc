#include "runtime/config/text.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>

namespace cairn {
namespace {

// Longer words are no typing errors, and distances cost time in their square.
constexpr size_t kLongestWord = 64;

bool IsPlainAscii(unsigned char byte) {
  return (byte >= 0x20 && byte < 0x7f) || byte == '\t' || byte == '\n' || byte == '\r';
}

size_t Utf8Length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// Insertions, deletions, substitutions and swaps of neighbours; no part is edited twice. Words are
// of kLongestWord bytes at most.
size_t EditDistance(std::string_view a, std::string_view b) {
  // Costs of the first i bytes of a and the first j of b: the row of i and the two before it.
  std::array<std::array<uint8_t, kLongestWord + 1>, 3> rows;
  for (size_t i = 0; i <= a.size(); ++i) {
    auto& cost = rows[i % 3];
    const auto& before = rows[(i + 2) % 3];
    const auto& before_that = rows[(i + 1) % 3];
    cost[0] = static_cast<uint8_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      if (i == 0) {
        cost[j] = static_cast<uint8_t>(j);
        continue;
      }
      int least = std::min(before[j], cost[j - 1]) + 1;
      least = std::min(least, before[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        least = std::min(least, before_that[j - 2] + 1);
      }
      cost[j] = static_cast<uint8_t>(least);
    }
  }
  return rows[a.size() % 3][b.size()];
}

}  // namespace

size_t FirstBadByte(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = Utf8Length(lead);
    const bool good =
        length == 1 ? IsPlainAscii(lead)
                    : i + length <= text.size() && simdjson::validate_utf8(text.data() + i, length);
    if (!good) return i;
    i += length;
  }
  return text.size();
}

std::string Printable(std::string_view text, size_t limit) {
  const bool cut = text.size() > limit;
  text = text.substr(0, limit);
  std::string shown;
  while (!text.empty()) {
    size_t good = std::min(FirstBadByte(text), text.find_first_of("\t\n\r"));
    good = std::min(good, text.size());
    shown += text.substr(0, good);
    text.remove_prefix(good);
    if (text.empty()) break;
    shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    text.remove_prefix(1);
  }
  return cut ? shown + "..." : shown;
}

std::string Quoted(std::string_view text) { return fmt::format("`{}`", Printable(text)); }

std::optional<std::string> ClosestName(std::string_view word,
                                       std::span<const std::string> candidates) {
  if (word.empty() || word.size() > kLongestWord) return std::nullopt;
  const std::string lower = Lower(word);
  const std::string* closest = nullptr;
  size_t smallest = std::max<size_t>(1, word.size() / 3) + 1;
  const std::string* container = nullptr;
  size_t containers = 0;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongestWord) continue;
    const std::string lower_candidate = Lower(candidate);
    // A distance of the whole candidate means that nothing of it was typed.
    const size_t limit = std::min(smallest, candidate.size());
    // No distance is less than the difference of lengths, and most names need no closer look.
    if (std::max(word.size(), candidate.size()) - std::min(word.size(), candidate.size()) < limit) {
      const size_t distance = EditDistance(lower, lower_candidate);
      if (distance < limit) {
        smallest = distance;
        closest = &candidate;
      }
    }
    if (word.size() > 1 && lower_candidate.find(lower) != std::string::npos) {
      container = &candidate;
      ++containers;
    }
  }
  if (closest != nullptr) return *closest;
  if (containers == 1) return *container;
  return std::nullopt;
}

std::string DidYouMean(std::string_view word, std::span<const std::string> candidates) {
  const std::optional<std::string> closest = ClosestName(word, candidates);
  return closest ? fmt::format("; did you mean `{}`?", *closest) : std::string();
}

}  // namespace cairn
