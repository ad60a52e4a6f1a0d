#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/base/error.h"
#include "runtime/data/bpe_tokenizer.h"
#include "runtime/data/byte_alphabet.h"
#include "runtime/data/data_file.h"
#include "runtime/data/pieces.h"
#include "runtime/data/utf8.h"

namespace cairn {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxFileBytes = 256 << 20;

// Names a token in a message without flooding it.
std::string Quote(std::string_view token) {
  std::string quoted = "\"";
  for (const char c : token.substr(0, 40)) {
    if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\x{:02x}", static_cast<int>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + (token.size() > 40 ? "...\"" : "\"");
}

Json ParseJsonFile(const std::string& path) {
  const std::string text = ReadDataFile(path, kMaxFileBytes);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error(ErrorKind::kData, fmt::format("{}: byte {}", path, error.byte), "not valid JSON");
  }
}

// Looks up a member of an object that may be missing or null; both read as null.
const Json& Member(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto member = object.find(name);
  return member == object.end() ? null : *member;
}

bool IsTrue(const Json& value) { return value.is_boolean() && value.get<bool>(); }

// Collects the parts of a model and checks that they fit together.
class BpeBuilder {
 public:
  void AddVocabulary(const Json& vocabulary, const std::string& where) {
    if (!vocabulary.is_object() || vocabulary.empty()) {
      Throw(ErrorKind::kData, where, "an object of token to id was expected");
    }
    for (const auto& [token, id] : vocabulary.items()) {
      AddId(token, id, where);
      ids_.emplace(token, id.get<int32_t>());
    }
  }

  // `content` is found in the text as it stands; it may be in the vocabulary already.
  void AddAddedToken(const std::string& content, const Json& id, const std::string& where) {
    if (content.empty()) Throw(ErrorKind::kData, where, "an added token without content");
    const auto known = ids_.find(content);
    if (known == ids_.end()) {
      AddId(content, id, where);
    } else if (!id.is_number_integer() || id != known->second) {
      Throw(ErrorKind::kData, where, "added token {} has id {}, in the vocabulary it has {}",
            Quote(content), id.dump(), known->second);
    }
    const auto number = id.get<int32_t>();
    added_ids_.emplace(number, content);
    model_.added_tokens.push_back({content, number});
  }

  void AddMerge(std::string_view left, std::string_view right, const std::string& where) {
    const int32_t left_id = IdOf(left, where);
    const int32_t right_id = IdOf(right, where);
    const int32_t merged = IdOf(std::string(left).append(right), where);
    model_.merges[BpeModel::MergeKey(left_id, right_id)] = {rank_++, merged};
  }

  void AddPattern(std::string_view pattern, const std::string& where) {
    model_.pretokenizers.emplace_back(pattern, where);
  }

  std::unique_ptr<Tokenizer> Build(bool ignore_merges, const std::string& where) {
    int32_t last = 0;
    for (const auto& [id, token] : tokens_) last = std::max(last, id);
    // Some vocabularies leave ids unused, but not most of them.
    if (static_cast<size_t>(last) >= 2 * tokens_.size() + 1024) {
      Throw(ErrorKind::kData, where, "{} tokens have ids up to {}", tokens_.size(), last);
    }
    const ByteAlphabet alphabet;
    std::array<bool, 256> have = {};
    model_.pieces.resize(last + 1);
    for (const auto& [id, token] : tokens_) {
      if (added_ids_.contains(id)) {
        model_.pieces[id] = token;
        continue;
      }
      auto bytes = alphabet.ToBytes(token);
      if (!bytes) {
        Throw(
            ErrorKind::kData, where,
            "token {} (id {}) is not in the alphabet of byte-level BPE, the only BPE that is read",
            Quote(token), id);
      }
      if (bytes->size() == 1) {
        const auto byte = static_cast<unsigned char>(bytes->front());
        model_.byte_ids[byte] = id;
        have[byte] = true;
      }
      if (ignore_merges) model_.whole_words.emplace(*bytes, id);
      model_.pieces[id] = std::move(*bytes);
    }
    for (size_t byte = 0; byte < have.size(); ++byte) {
      if (!have[byte]) {
        Throw(ErrorKind::kData, where, "the vocabulary has no token for byte 0x{:02X}", byte);
      }
    }
    for (const std::string_view name :
         {kEndOfText, std::string_view("<|end_of_text|>"), std::string_view("</s>")}) {
      for (const auto& added : model_.added_tokens) {
        if (added.content == name && model_.end_of_text < 0) model_.end_of_text = added.id;
      }
    }
    return std::make_unique<BpeTokenizer>(std::move(model_));
  }

  const std::unordered_map<std::string, int32_t>& ids() const { return ids_; }

 private:
  void AddId(const std::string& token, const Json& id, const std::string& where) {
    if (!id.is_number_integer() || id < 0 || id >= kMaxVocabularySize) {
      Throw(ErrorKind::kData, where, "token {} has id {}; an integer from 0 to {} was expected",
            Quote(token), Quote(id.dump()), kMaxVocabularySize - 1);
    }
    const auto [other, is_new] = tokens_.emplace(id.get<int32_t>(), token);
    if (!is_new) {
      Throw(ErrorKind::kData, where, "tokens {} and {} share id {}", Quote(other->second),
            Quote(token), other->first);
    }
  }

  int32_t IdOf(std::string_view token, const std::string& where) const {
    const auto known = ids_.find(std::string(token));
    if (known == ids_.end()) {
      Throw(ErrorKind::kData, where, "the merge needs token {}, which the vocabulary lacks",
            Quote(token));
    }
    return known->second;
  }

  std::unordered_map<int32_t, std::string> tokens_;  // all, as written
  std::unordered_map<std::string, int32_t> ids_;     // of the vocabulary, without added tokens
  std::unordered_map<int32_t, std::string> added_ids_;
  int32_t rank_ = 0;
  BpeModel model_;
};

// Adds the merge "left right" of `line`.
void AddMergeLine(BpeBuilder& builder, std::string_view line, const std::string& where) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != std::string_view::npos) {
    Throw(ErrorKind::kData, where, "{} is not two tokens with a space between", Quote(line));
  }
  builder.AddMerge(line.substr(0, space), line.substr(space + 1), where);
}

void AddJsonMerges(BpeBuilder& builder, const Json& merges, const std::string& path) {
  if (!merges.is_array()) {
    Throw(ErrorKind::kData, path + ": model.merges", "an array of merges was expected");
  }
  for (size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    const std::string where = fmt::format("{}: model.merges[{}]", path, i);
    if (merge.is_string()) {
      AddMergeLine(builder, merge.get_ref<const std::string&>(), where);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      builder.AddMerge(merge[0].get_ref<const std::string&>(),
                       merge[1].get_ref<const std::string&>(), where);
    } else {
      Throw(ErrorKind::kData, where, "a merge is \"left right\" or [\"left\", \"right\"]");
    }
  }
}

void AddJsonAddedTokens(BpeBuilder& builder, const Json& added, const std::string& path) {
  if (added.is_null()) return;
  if (!added.is_array()) {
    Throw(ErrorKind::kData, path + ": added_tokens", "an array was expected");
  }
  for (size_t i = 0; i < added.size(); ++i) {
    const std::string where = fmt::format("{}: added_tokens[{}]", path, i);
    const Json& content = Member(added[i], "content");
    if (!content.is_string()) Throw(ErrorKind::kData, where, "it has no text \"content\"");
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
      if (IsTrue(Member(added[i], flag))) {
        Throw(ErrorKind::kData, where, "{}: true would lose text and is not supported", flag);
      }
    }
    builder.AddAddedToken(content.get<std::string>(), Member(added[i], "id"), where);
  }
}

std::string EscapePattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view(R"(\^$.[]|()?*+{}#-&~)").find(c) != std::string_view::npos)
      pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// Adds what one step of the pre-tokenizer does; true when it maps bytes to the alphabet, the last
// step.
bool AddJsonPretokenizer(BpeBuilder& builder, const Json& step, const std::string& where) {
  const Json& type = Member(step, "type");
  if (type == "ByteLevel") {
    if (IsTrue(Member(step, "add_prefix_space"))) {
      Throw(ErrorKind::kData, where, "add_prefix_space: true would change the text; not supported");
    }
    const Json& use_regex = Member(step, "use_regex");
    if (use_regex.is_null() || IsTrue(use_regex)) builder.AddPattern(kGpt2Pattern, where);
    return true;
  }
  if (type == "Digits") {
    builder.AddPattern(IsTrue(Member(step, "individual_digits")) ? R"(\p{N})" : R"(\p{N}+)", where);
    return false;
  }
  if (type == "Split") {
    if (Member(step, "behavior") != "Isolated" || IsTrue(Member(step, "invert"))) {
      Throw(ErrorKind::kData, where,
            "of Split only behavior \"Isolated\", not inverted, is supported");
    }
    const Json& regex = Member(Member(step, "pattern"), "Regex");
    const Json& plain = Member(Member(step, "pattern"), "String");
    if (regex.is_string()) {
      builder.AddPattern(regex.get_ref<const std::string&>(), where);
    } else if (plain.is_string()) {
      builder.AddPattern(EscapePattern(plain.get_ref<const std::string&>()), where);
    } else {
      Throw(ErrorKind::kData, where, "Split has neither pattern.Regex nor pattern.String");
    }
    return false;
  }
  Throw(ErrorKind::kData, where,
        "pre-tokenizer {} is not supported; a byte-level BPE has ByteLevel, and Split or Digits "
        "before "
        "it",
        Quote(type.dump()));
}

void AddJsonPretokenizers(BpeBuilder& builder, const Json& root, const std::string& path) {
  const std::string where = path + ": pre_tokenizer";
  if (root.is_null()) {
    Throw(ErrorKind::kData, where, "not a byte-level BPE: it has no ByteLevel pre-tokenizer");
  }
  if (Member(root, "type") != "Sequence") {
    if (!AddJsonPretokenizer(builder, root, where)) {
      Throw(ErrorKind::kData, where, "not a byte-level BPE: it has no ByteLevel pre-tokenizer");
    }
    return;
  }
  const Json& steps = Member(root, "pretokenizers");
  bool byte_level = false;
  for (size_t i = 0; steps.is_array() && i < steps.size(); ++i) {
    const std::string step_where = fmt::format("{}.pretokenizers[{}]", where, i);
    if (byte_level) Throw(ErrorKind::kData, step_where, "a step after ByteLevel is not supported");
    byte_level = AddJsonPretokenizer(builder, steps[i], step_where);
  }
  if (!byte_level) {
    Throw(ErrorKind::kData, where, "not a byte-level BPE: it does not end in ByteLevel");
  }
}

void CheckJsonModel(const Json& root, const std::string& path) {
  const Json& model = Member(root, "model");
  // Files older than the field "type" are BPE if they have merges.
  const Json& type = Member(model, "type");
  if (!model.is_object() || (!type.is_null() && type != "BPE")) {
    Throw(ErrorKind::kData, path + ": model.type", "{}; only BPE is read", Quote(type.dump()));
  }
  for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& affix = Member(model, field);
    if (!affix.is_null() && affix != "") {
      Throw(ErrorKind::kData, fmt::format("{}: model.{}", path, field),
            "{} is not byte-level; it must be absent", Quote(affix.dump()));
    }
  }
  const Json& dropout = Member(model, "dropout");
  if (!dropout.is_null() && dropout != 0) {
    Throw(ErrorKind::kData, path + ": model.dropout", "tokenizing at random is not supported");
  }
  if (!Member(root, "normalizer").is_null()) {
    Throw(ErrorKind::kData, path + ": normalizer",
          "a normalizer changes the text and is not supported; it must be null");
  }
}

}  // namespace

std::unique_ptr<Tokenizer> LoadHuggingFaceBpe(const std::string& path) {
  const Json root = ParseJsonFile(path);
  CheckJsonModel(root, path);
  const Json& model = Member(root, "model");
  BpeBuilder builder;
  builder.AddVocabulary(Member(model, "vocab"), path + ": model.vocab");
  AddJsonMerges(builder, Member(model, "merges"), path);
  AddJsonAddedTokens(builder, Member(root, "added_tokens"), path);
  AddJsonPretokenizers(builder, Member(root, "pre_tokenizer"), path);
  return builder.Build(IsTrue(Member(model, "ignore_merges")), path);
}

std::unique_ptr<Tokenizer> LoadGpt2Bpe(const std::string& vocab_path,
                                       const std::string& merges_path) {
  BpeBuilder builder;
  builder.AddVocabulary(ParseJsonFile(vocab_path), vocab_path);
  const std::string merges = ReadDataFile(merges_path, kMaxFileBytes);
  std::string_view rest = merges;
  for (int64_t line_number = 1; !rest.empty(); ++line_number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    AddMergeLine(builder, line, fmt::format("{}:{}", merges_path, line_number));
  }
  const auto end_of_text = builder.ids().find(std::string(kEndOfText));
  if (end_of_text != builder.ids().end()) {
    builder.AddAddedToken(end_of_text->first, end_of_text->second, vocab_path);
  }
  builder.AddPattern(kGpt2Pattern, vocab_path);
  return builder.Build(/*ignore_merges=*/false, vocab_path);
}

}  // namespace cairn
