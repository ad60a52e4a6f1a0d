#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "runtime/config/fields.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

constexpr size_t kShownArgument = 120;

std::string WhereArgument(const std::string& argument) {
  return "command line: " + Printable(argument, kShownArgument);
}

std::string WithUnderscores(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

[[noreturn]] void ThrowUnknown(const std::string& name, const std::string& argument) {
  const size_t dot = name.find('.');
  std::vector<std::string> candidates;
  for (const ConfigField& field : ConfigFields()) {
    candidates.push_back(dot == std::string::npos ? field.field->name() : field.path);
  }
  // "train.lr": the field is right, its section is not.
  if (dot != std::string::npos) {
    if (const auto field = FindConfigField(name.substr(dot + 1)); field && field->section) {
      Throw(ErrorKind::kUsage, WhereArgument(argument), "`{}` belongs to section {}: `{}`",
            field->field->name(), field->section->name(), field->path);
    }
  }
  Throw(ErrorKind::kUsage, WhereArgument(argument), "no option or config field is called {}{}",
        Quoted(name), DidYouMean(name, candidates));
}

// Walks the arguments, for a flag may take its value from the next one.
class OverrideParser {
 public:
  explicit OverrideParser(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  std::vector<ConfigOverride> Parse() {
    std::vector<ConfigOverride> overrides;
    while (next_ < arguments_.size()) {
      const std::string& argument = arguments_[next_++];
      overrides.push_back(argument.starts_with("--") ? ParseFlag(argument)
                                                     : ParseAssignment(argument));
    }
    return overrides;
  }

 private:
  static ConfigOverride ParseAssignment(const std::string& argument) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0 || argument.front() == '-') {
      Throw(ErrorKind::kUsage, WhereArgument(argument),
            "is not an override; write `section.field=value` or `--field-name value`");
    }
    const std::string name = WithUnderscores(argument.substr(0, equals));
    const std::optional<ConfigField> field = FindConfigField(name);
    if (!field) ThrowUnknown(name, argument);
    return {field->path, argument.substr(equals + 1), argument};
  }

  ConfigOverride ParseFlag(const std::string& argument) {
    const size_t equals = argument.find('=');
    const std::string name = WithUnderscores(argument.substr(2, equals - 2));
    const std::optional<ConfigField> field = FindConfigField(name);
    if (!field) return ParseNegation(name, equals != std::string::npos, argument);
    if (equals != std::string::npos) return {field->path, argument.substr(equals + 1), argument};
    if (field->IsBool()) return ParseSwitch(*field, argument);
    if (next_ == arguments_.size() || arguments_[next_].starts_with("--")) {
      Throw(ErrorKind::kUsage, WhereArgument(argument), "needs a value: `{} VALUE`",
            Printable(argument));
    }
    const std::string& value = arguments_[next_++];
    return {field->path, value, argument + " " + value};
  }

  // `--flag`, `--flag true` or `--flag false`: a bare word can be nothing but the flag's value.
  ConfigOverride ParseSwitch(const ConfigField& field, const std::string& argument) {
    if (next_ < arguments_.size() &&
        (arguments_[next_] == "true" || arguments_[next_] == "false")) {
      const std::string& value = arguments_[next_++];
      return {field.path, value, argument + " " + value};
    }
    return {field.path, "true", argument};
  }

  static ConfigOverride ParseNegation(const std::string& name, bool has_value,
                                      const std::string& argument) {
    constexpr std::string_view kNo = "no_";
    const std::optional<ConfigField> field =
        name.starts_with(kNo) ? FindConfigField(name.substr(kNo.size())) : std::nullopt;
    if (!field) ThrowUnknown(name, argument);
    if (!field->IsBool() || has_value) {
      Throw(ErrorKind::kUsage, WhereArgument(argument), "{}",
            has_value ? "a --no-... switch takes no value"
                      : fmt::format("`{}` is not a switch; give it a value", field->field->name()));
    }
    return {field->path, "false", argument};
  }

  const std::vector<std::string>& arguments_;
  size_t next_ = 0;
};

}  // namespace

std::vector<ConfigOverride> ParseOverrides(const std::vector<std::string>& arguments) {
  return OverrideParser(arguments).Parse();
}

}  // namespace cairn
