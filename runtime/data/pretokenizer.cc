#include "runtime/data/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "runtime/base/error.h"
#include "runtime/data/utf8.h"

namespace cairn {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr size_t kMinJitStackBytes = 32 << 10;
constexpr size_t kMaxJitStackBytes = 8 << 20;

struct Pcre2Deleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};
template <typename T>
using Pcre2 = std::unique_ptr<T, Pcre2Deleter>;

std::string Pcre2Message(int code) {
  std::array<PCRE2_UCHAR, 256> text = {};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// Unicode's White_Space, which is \s in Hugging Face's engine; PCRE2's \s adds U+180E.
constexpr std::string_view kSpaceSet = R"(\p{Z}\x09-\x0d\x{85})";

// Writes \s and \S so that PCRE2 takes them for White_Space. Refuses what the engines read
// differently.
std::string AdaptPattern(std::string_view pattern, const std::string& where) {
  std::string adapted;
  bool in_set = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\' && next == 's') {
      adapted += in_set ? std::string(kSpaceSet) : fmt::format("[{}]", kSpaceSet);
      ++i;
    } else if (c == '\\' && next == 'S' && !in_set) {
      adapted += fmt::format("[^{}]", kSpaceSet);
      ++i;
    } else if (c == '\\' && next != '\0') {
      adapted.append({c, next});
      ++i;
    } else if (in_set && (c == '[' || (c == '&' && next == '&'))) {
      Throw(ErrorKind::kData, where,
            "the pattern nests or intersects sets at byte {}, which is not supported", i);
    } else {
      if (c == '[') in_set = true;
      if (c == ']') in_set = false;
      adapted += c;
    }
  }
  return adapted;
}

}  // namespace

struct Pretokenizer::Compiled {
  std::string where;
  Pcre2<pcre2_code> code;
  Pcre2<pcre2_match_data> match;
  Pcre2<pcre2_match_context> context;
  Pcre2<pcre2_jit_stack> stack;
};

Pretokenizer::Pretokenizer(std::string_view pattern, const std::string& where)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->where = where;
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    Throw(ErrorKind::kData, where, "a pattern of {} bytes; 1 to {} would fit", pattern.size(),
          kMaxPatternBytes);
  }
  if (const size_t valid = Utf8PrefixLength(pattern); valid != pattern.size()) {
    Throw(ErrorKind::kData, where, "the pattern is not UTF-8 at byte {}", valid);
  }
  const std::string adapted = AdaptPattern(pattern, where);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(adapted.data()), adapted.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                                      &error_offset, nullptr));
  if (!compiled_->code) {
    Throw(ErrorKind::kData, where, "the pattern does not compile: {} before \"{}\"",
          Pcre2Message(error), adapted.substr(std::min(error_offset, adapted.size()), 32));
  }
  // Where the machine allows no JIT, matching is interpreted: the same words, slower.
  pcre2_jit_compile(compiled_->code.get(), PCRE2_JIT_COMPLETE);
  compiled_->match.reset(pcre2_match_data_create_from_pattern(compiled_->code.get(), nullptr));
  compiled_->context.reset(pcre2_match_context_create(nullptr));
  compiled_->stack.reset(pcre2_jit_stack_create(kMinJitStackBytes, kMaxJitStackBytes, nullptr));
  if (!compiled_->match || !compiled_->context || !compiled_->stack) throw std::bad_alloc();
  pcre2_jit_stack_assign(compiled_->context.get(), nullptr, compiled_->stack.get());
}

Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer::~Pretokenizer() = default;

void Pretokenizer::Split(std::string_view text,
                         const std::function<void(std::string_view)>& visit) const {
  while (!text.empty()) {
    const size_t valid = Utf8PrefixLength(text);
    if (valid > 0) SplitUtf8(text.substr(0, valid), visit);
    size_t resume = valid;
    while (resume < text.size() && Utf8CharacterLength(text.substr(resume)) == 0) ++resume;
    if (resume > valid) visit(text.substr(valid, resume - valid));
    text.remove_prefix(resume);
  }
}

void Pretokenizer::SplitUtf8(std::string_view text,
                             const std::function<void(std::string_view)>& visit) const {
  size_t done = 0;  // end of the last word
  size_t from = 0;
  while (from < text.size()) {
    const int found =
        pcre2_match(compiled_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    from, PCRE2_NO_UTF_CHECK, compiled_->match.get(), compiled_->context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      Throw(ErrorKind::kData, compiled_->where, "the pattern fails at byte {} of a text of {}: {}",
            from, text.size(), Pcre2Message(found));
    }
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(compiled_->match.get());
    const size_t begin = bounds[0];
    const size_t end = bounds[1];
    if (end <= begin || begin < from) {  // empty: look again one character on
      const size_t at = std::max(begin, from);
      if (at >= text.size()) break;
      from = at + Utf8CharacterLength(text.substr(at));
      continue;
    }
    if (begin > done) visit(text.substr(done, begin - done));
    visit(text.substr(begin, end - begin));
    done = from = end;
  }
  if (done < text.size()) visit(text.substr(done));
}

}  // namespace cairn
