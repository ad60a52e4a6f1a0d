#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cairn {

/// Cuts text into the words that BPE merges within: the matches of a pattern, and what lies between
/// them. Serves one thread at a time.
class Pretokenizer {
 public:
  /// `pattern` is a regular expression of Hugging Face's `tokenizers` (Oniguruma's syntax, as far
  /// as PCRE2 shares it); `where` names its place in an error of kind kData.
  Pretokenizer(std::string_view pattern, const std::string& where);
  Pretokenizer(Pretokenizer&&) noexcept;
  ~Pretokenizer();

  /// Calls `visit` with the words of `text`, in order; together they are `text`. Runs of bytes that
  /// are not UTF-8 are words of their own.
  void Split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  struct Compiled;
  void SplitUtf8(std::string_view text, const std::function<void(std::string_view)>& visit) const;

  std::unique_ptr<Compiled> compiled_;
};

/// GPT-2's pattern: contractions, words, numbers, punctuation, each with a space before it, and
/// spaces.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace cairn
