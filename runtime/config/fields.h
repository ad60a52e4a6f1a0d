#pragma once

#include <google/protobuf/message.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/train_config.pb.h"

namespace cairn {

/// One settable field of TrainConfig, by reflection. Internal to this folder.
struct ConfigField {
  std::string path;                                  ///< "model.num_layers", or "run_dir"
  const google::protobuf::FieldDescriptor* section;  ///< null for a field outside the sections
  const google::protobuf::FieldDescriptor* field;

  const FieldRule& rule() const { return field->options().GetExtension(cairn::rule); }
  bool IsBool() const;
  /// The message that holds the field (the default one where the section is unset).
  const google::protobuf::Message& Holder(const TrainConfig& config) const;
  google::protobuf::Message& MutableHolder(TrainConfig& config) const;
};

/// Every settable field, in the order of the .proto.
std::vector<ConfigField> ConfigFields();

/// The field called `name`: a path, or the bare name of a field of any section.
std::optional<ConfigField> FindConfigField(std::string_view name);

/// Names for a did-you-mean: the fields of `message`.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);

/// Sets `field` from `text`, one whole value in plain decimal notation; a repeated field then holds
/// this one value. Throws kConfig at `where`.
void SetFieldFromText(TrainConfig& config, const ConfigField& field, const std::string& text,
                      const std::string& where);

}  // namespace cairn
