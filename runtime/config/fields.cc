#include "runtime/config/fields.h"

#include <charconv>
#include <cstdint>
#include <system_error>

#include "runtime/base/error.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

template <typename T>
T ParseNumber(const std::string& text, const char* kind, const std::string& name,
              const std::string& where) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range && stop == end) {
    Throw(ErrorKind::kConfig, where, "{} is too large or too small for {}", Quoted(text), name);
  }
  if (error != std::errc() || stop != end) {
    Throw(ErrorKind::kConfig, where, "{} takes {}, not {}", name, kind, Quoted(text));
  }
  return value;
}

bool ParseBool(const std::string& text, const std::string& name, const std::string& where) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  Throw(ErrorKind::kConfig, where, "{} takes true or false, not {}", name, Quoted(text));
}

}  // namespace

bool ConfigField::IsBool() const { return field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL; }

const Message& ConfigField::Holder(const TrainConfig& config) const {
  return section == nullptr ? static_cast<const Message&>(config)
                            : config.GetReflection()->GetMessage(config, section);
}

Message& ConfigField::MutableHolder(TrainConfig& config) const {
  return section == nullptr ? static_cast<Message&>(config)
                            : *config.GetReflection()->MutableMessage(&config, section);
}

std::vector<ConfigField> ConfigFields() {
  std::vector<ConfigField> fields;
  const Descriptor& root = *TrainConfig::descriptor();
  for (int i = 0; i < root.field_count(); ++i) {
    const FieldDescriptor* outer = root.field(i);
    if (outer->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      fields.push_back({outer->name(), nullptr, outer});
      continue;
    }
    const Descriptor& section = *outer->message_type();
    for (int j = 0; j < section.field_count(); ++j) {
      const FieldDescriptor* inner = section.field(j);
      fields.push_back({outer->name() + "." + inner->name(), outer, inner});
    }
  }
  return fields;
}

std::optional<ConfigField> FindConfigField(std::string_view name) {
  for (ConfigField& field : ConfigFields()) {
    if (field.path == name || field.field->name() == name) return std::move(field);
  }
  return std::nullopt;
}

std::vector<std::string> FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  names.reserve(static_cast<size_t>(message.field_count()));
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

void SetFieldFromText(TrainConfig& config, const ConfigField& field, const std::string& text,
                      const std::string& where) {
  Message& holder = field.MutableHolder(config);
  const Reflection& reflection = *holder.GetReflection();
  const std::string& name = field.field->name();
  switch (field.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection.SetBool(&holder, field.field, ParseBool(text, name, where));
      return;
    case FieldDescriptor::CPPTYPE_INT32:
      reflection.SetInt32(&holder, field.field,
                          ParseNumber<int32_t>(text, "an integer", name, where));
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      reflection.SetInt64(&holder, field.field,
                          ParseNumber<int64_t>(text, "an integer", name, where));
      return;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      reflection.SetDouble(&holder, field.field,
                           ParseNumber<double>(text, "a number", name, where));
      return;
    case FieldDescriptor::CPPTYPE_STRING:
      if (field.field->is_repeated()) {
        reflection.ClearField(&holder, field.field);
        reflection.AddString(&holder, field.field, text);
      } else {
        reflection.SetString(&holder, field.field, text);
      }
      return;
    default:
      Throw(ErrorKind::kInternal, field.path, "has a type that no config field may have");
  }
}

}  // namespace cairn
