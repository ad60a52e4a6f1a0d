#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <optional>

#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "runtime/config/fields.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;
using google::protobuf::io::ColumnNumber;
using google::protobuf::io::Tokenizer;

// A config resolved and quoted can be several times the file that a user may write.
constexpr size_t kMaxConfigBytes = size_t{4} << 20;
constexpr int kMaxTokens = 1 << 14;

// Sections hold no messages; whatever nests deeper is wrong.
constexpr int kMaxNesting = 4;

// protobuf counts lines and columns from zero, and a tab up to the next multiple of this.
constexpr int kTabWidth = 8;

size_t OffsetOf(std::string_view text, int line, int column) {
  size_t offset = 0;
  for (; line > 0; --line) {
    const size_t end = text.find('\n', offset);
    if (end == std::string_view::npos) return text.size();
    offset = end + 1;
  }
  for (int at = 0; at < column && offset < text.size() && text[offset] != '\n'; ++offset) {
    at += text[offset] == '\t' ? kTabWidth - at % kTabWidth : 1;
  }
  return offset;
}

// "file:line:column", both counted from one, the column in bytes as editors and compilers do.
std::string WhereOffset(const ConfigFile& file, size_t offset) {
  const std::string_view before = std::string_view(file.text).substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("{}:{}:{}", Printable(file.name, 4096), line, offset - line_start + 1);
}

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, ColumnNumber column, const std::string& message) override {
    if (!message_.empty()) return;
    line_ = line;
    column_ = column;
    message_ = message;
  }

  int line() const { return line_; }
  int column() const { return column_; }
  const std::string& message() const { return message_; }

 private:
  int line_ = 0;
  int column_ = 0;
  std::string message_;
};

// What stands between `prefix` and the next '"' in `message`.
std::optional<std::string> QuotedAfter(const std::string& message, std::string_view prefix) {
  const size_t found = message.find(prefix);
  if (found == std::string::npos) return std::nullopt;
  const size_t start = found + prefix.size();
  return message.substr(start, message.find('"', start) - start);
}

std::string DescribeMessage(const Descriptor& message) {
  const Descriptor& root = *TrainConfig::descriptor();
  for (int i = 0; i < root.field_count(); ++i) {
    if (root.field(i)->message_type() == &message) return "section " + root.field(i)->name();
  }
  return "the config";
}

// What to say of `name`, which `message` lacks; `opens` when a '{' follows, as after a section's
// name.
std::string UnknownField(const std::string& name, const Descriptor& message, bool opens) {
  const Descriptor& root = *TrainConfig::descriptor();
  const std::string what = DescribeMessage(message);
  if (opens && root.FindFieldByName(name) != nullptr) {
    return fmt::format("section `{}` cannot stand inside {}; is a `}}` missing before it?", name,
                       what);
  }
  if (const auto field = FindConfigField(name)) {
    return fmt::format("`{}` {}", name,
                       field->section ? "belongs to section " + field->section->name()
                                      : "belongs outside the sections");
  }
  // A name that is mistyped here may be right in another section; say which.
  std::string hint = DidYouMean(name, FieldNames(message));
  if (hint.empty()) {
    std::vector<std::string> paths;
    for (const ConfigField& field : ConfigFields()) paths.push_back(field.field->name());
    if (const auto closest = ClosestName(name, paths)) {
      hint = fmt::format("; did you mean `{}`?", FindConfigField(*closest)->path);
    }
  }
  return fmt::format("{} has no field {}{}", what, Quoted(name), hint);
}

// protobuf reports a wrong name at the token that follows it: the place of `name` before `offset`.
size_t Before(const std::string& text, size_t offset, const std::string& name) {
  if (name.empty() || name.size() > offset) return offset;
  const size_t found = text.rfind(name, offset - name.size());
  return found == std::string::npos ? offset : found;
}

[[noreturn]] void ThrowSyntax(const ConfigFile& file, const FirstError& error) {
  const std::string& message = error.message();
  const size_t offset = OffsetOf(file.text, error.line(), error.column());
  if (const auto name = QuotedAfter(message, "has no field named \"")) {
    const std::string type = QuotedAfter(message, "Message type \"").value_or("");
    const Descriptor* owner =
        TrainConfig::descriptor()->file()->pool()->FindMessageTypeByName(type);
    const bool opens = offset < file.text.size() && file.text[offset] == '{';
    throw Error(ErrorKind::kConfig, WhereOffset(file, Before(file.text, offset, *name)),
                UnknownField(*name, owner ? *owner : *TrainConfig::descriptor(), opens));
  }
  if (const auto name = QuotedAfter(message, "Non-repeated field \"")) {
    Throw(ErrorKind::kConfig, WhereOffset(file, Before(file.text, offset, *name)),
          "`{}` is given twice", *name);
  }
  if (const auto name = QuotedAfter(message, "Invalid value for boolean field \"")) {
    const std::string value = QuotedAfter(message, "Value: \"").value_or("");
    Throw(ErrorKind::kConfig, WhereOffset(file, Before(file.text, offset, value)),
          "{} takes true or false, not {}", *name, Quoted(value));
  }
  if (file.text.find_first_not_of(" \t\r\n", offset) == std::string::npos) {
    Throw(ErrorKind::kConfig, WhereOffset(file, offset),
          "the text ends inside a field or section; is a `}}` missing?");
  }
  Throw(ErrorKind::kConfig, WhereOffset(file, offset), "{}", Printable(message, 200));
}

// Before protobuf builds anything: refuses more tokens than any config has, for each can cost it
// far more memory than it has bytes, and octal numbers, for nobody who writes 010 means eight.
void CheckTokens(const ConfigFile& file) {
  google::protobuf::io::ArrayInputStream stream(file.text.data(),
                                                static_cast<int>(file.text.size()));
  FirstError errors;
  Tokenizer tokenizer(&stream, &errors);
  tokenizer.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
  for (int count = 0; tokenizer.Next(); ++count) {
    const Tokenizer::Token& token = tokenizer.current();
    if (count == kMaxTokens) {
      Throw(ErrorKind::kConfig, WhereOffset(file, OffsetOf(file.text, token.line, token.column)),
            "more than {} words and signs, which no config has", kMaxTokens);
    }
    if (token.type != Tokenizer::TYPE_INTEGER || token.text.size() < 2 || token.text[0] != '0' ||
        token.text[1] == 'x' || token.text[1] == 'X') {
      continue;
    }
    Throw(ErrorKind::kConfig, WhereOffset(file, OffsetOf(file.text, token.line, token.column)),
          "{} would be read as an octal number; write it without the leading zero",
          Quoted(token.text));
  }
}

void NoteLocations(const ConfigFile& file, const TextFormat::ParseInfoTree& tree,
                   LoadedConfig& loaded) {
  for (const ConfigField& field : ConfigFields()) {
    const TextFormat::ParseInfoTree* section =
        field.section == nullptr ? &tree : tree.GetTreeForNested(field.section, -1);
    if (section == nullptr) continue;
    const int index = field.field->is_repeated() ? 0 : -1;
    const TextFormat::ParseLocation place = section->GetLocation(field.field, index);
    if (place.line < 0) continue;
    const size_t offset = OffsetOf(file.text, place.line, place.column);
    loaded.locations.Set(field.path, WhereOffset(file, offset), /*on_command_line=*/false);
  }
}

}  // namespace

LoadedConfig ParseConfig(const ConfigFile& file, const std::vector<ConfigOverride>& overrides) {
  if (file.text.size() > kMaxConfigBytes) {
    Throw(ErrorKind::kConfig, Printable(file.name), "has {} bytes, at most {} are accepted",
          file.text.size(), kMaxConfigBytes);
  }
  if (const size_t bad = FirstBadByte(file.text); bad < file.text.size()) {
    Throw(ErrorKind::kConfig, WhereOffset(file, bad), "byte 0x{:02x} is not UTF-8 text",
          static_cast<unsigned char>(file.text[bad]));
  }
  CheckTokens(file);
  LoadedConfig loaded;
  loaded.source = file.name;
  FirstError error;
  TextFormat::ParseInfoTree tree;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&tree);
  parser.SetRecursionLimit(kMaxNesting);
  if (!parser.ParseFromString(file.text, &loaded.config)) ThrowSyntax(file, error);
  NoteLocations(file, tree, loaded);
  for (const ConfigOverride& override : overrides) {
    const std::string where = "command line: " + Printable(override.argument, 120);
    const std::optional<ConfigField> field = FindConfigField(override.path);
    if (!field) {
      Throw(ErrorKind::kUsage, where, "no config field is called {}", Quoted(override.path));
    }
    SetFieldFromText(loaded.config, *field, override.value, where);
    loaded.locations.Set(field->path, where, /*on_command_line=*/true);
  }
  return loaded;
}

LoadedConfig LoadConfig(const std::string& name, const std::vector<ConfigOverride>& overrides,
                        const ConfigSources& sources) {
  return ParseConfig(ReadConfigFile(name, sources), overrides);
}

}  // namespace cairn
