#include "runtime/config/config.h"

#include <glog/logging.h>
#include <google/protobuf/text_format.h>
#include <xxhash.h>

#include <charconv>
#include <cmath>

#include "runtime/base/error.h"
#include "runtime/config/fields.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void SpellOutDefault(Message& holder, const FieldDescriptor& field) {
  const Reflection& reflection = *holder.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.SetBool(&holder, &field, field.default_value_bool());
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.SetInt32(&holder, &field, field.default_value_int32());
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.SetInt64(&holder, &field, field.default_value_int64());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.SetDouble(&holder, &field, field.default_value_double());
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.SetString(&holder, &field, field.default_value_string());
    default:
      LOG(FATAL) << field.full_name() << " has a type that no config field may have";
  }
}

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

void ConfigLocations::Set(const std::string& path, std::string place, bool on_command_line) {
  places_[path] = Place{std::move(place), on_command_line};
}

std::string ConfigLocations::Where(const std::string& path) const {
  const auto found = places_.find(path);
  return found == places_.end() ? path : found->second.text;
}

std::string ConfigLocations::WhereAny(std::initializer_list<const char*> paths) const {
  CHECK_GT(paths.size(), 0U);
  const Place* first = nullptr;
  for (const char* path : paths) {
    const auto found = places_.find(path);
    if (found == places_.end()) continue;
    if (found->second.on_command_line) return found->second.text;
    if (first == nullptr) first = &found->second;
  }
  return first == nullptr ? *paths.begin() : first->text;
}

std::string ConfigText(const TrainConfig& config) {
  TrainConfig spelled = config;
  for (const ConfigField& field : ConfigFields()) {
    if (!field.field->has_default_value()) continue;
    Message& holder = field.MutableHolder(spelled);
    if (!holder.GetReflection()->HasField(holder, field.field)) {
      SpellOutDefault(holder, *field.field);
    }
  }
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  std::string text;
  CHECK(printer.PrintToString(spelled, &text));
  return text;
}

uint64_t ConfigDigest(const TrainConfig& config) {
  const std::string text = ConfigText(config);
  return XXH3_64bits(text.data(), text.size());
}

int64_t FfnHiddenSize(const TrainConfig& config) {
  const int64_t chosen = config.model().ffn_hidden_size();
  return chosen != 0 ? chosen : 4 * config.model().hidden_size();
}

int64_t NumQueryGroups(const TrainConfig& config) {
  const TrainConfig::Model& model = config.model();
  return model.has_num_query_groups() ? model.num_query_groups() : model.num_attention_heads();
}

int64_t MaxPositionEmbeddings(const TrainConfig& config) {
  const TrainConfig::Model& model = config.model();
  return model.has_max_position_embeddings() ? model.max_position_embeddings() : model.seq_length();
}

int64_t LrDecayIters(const TrainConfig& config) {
  return config.optimizer().has_lr_decay_iters() ? config.optimizer().lr_decay_iters()
                                                 : config.train().train_iters();
}

int64_t PaddedVocabSize(const TrainConfig& config) {
  CHECK(config.model().has_vocab_size());
  return RoundUp(config.model().vocab_size(), config.model().make_vocab_size_divisible_by() *
                                                  config.parallel().tensor_model_parallel_size());
}

int64_t ModelParallelSize(const TrainConfig& config) {
  const TrainConfig::Parallel& parallel = config.parallel();
  return int64_t{parallel.tensor_model_parallel_size()} * parallel.pipeline_model_parallel_size() *
         parallel.context_parallel_size();
}

int DataParallelSize(const TrainConfig& config, int world_size) {
  const int64_t model_parallel = ModelParallelSize(config);
  CHECK_EQ(world_size % model_parallel, 0);
  return static_cast<int>(world_size / model_parallel);
}

int NumMicrobatches(const TrainConfig& config, int world_size) {
  const int64_t samples_at_once =
      config.train().micro_batch_size() * DataParallelSize(config, world_size);
  CHECK_EQ(config.train().global_batch_size() % samples_at_once, 0);
  return static_cast<int>(config.train().global_batch_size() / samples_at_once);
}

void RequireRunInputs(const LoadedConfig& loaded) {
  if (loaded.config.run_dir().empty()) {
    Throw(ErrorKind::kConfig, loaded.locations.Where("run_dir"),
          "is not set; a run needs a folder for its checkpoints and metrics ({})", loaded.source);
  }
  const TrainConfig::Data& data = loaded.config.data();
  if (data.data_path_size() == 0 || data.data_path(0).empty()) {
    Throw(ErrorKind::kConfig, loaded.locations.Where("data.data_path"),
          "is not set; a run needs the prefix of a dataset that `cairn data build` made ({})",
          loaded.source);
  }
}

std::array<double, 3> SplitShares(std::string_view split, const std::string& where) {
  std::array<double, 3> shares{};
  const auto refuse = [&](const char* why) {
    Throw(ErrorKind::kConfig, where,
          "split {} {}; it takes the shares of training, validation and test, such as 969,30,1",
          Quoted(split), why);
  };
  size_t count = 0;
  for (std::string_view rest = split;; ++count) {
    if (count == shares.size()) refuse("has more than three shares");
    const std::string_view part = rest.substr(0, rest.find(','));
    const auto [stop, error] =
        std::from_chars(part.data(), part.data() + part.size(), shares[count]);
    const bool good = error == std::errc() && stop == part.data() + part.size() &&
                      std::isfinite(shares[count]) && shares[count] >= 0 && shares[count] <= 1e12;
    if (!good) refuse("has a share that is no number from 0 to 1e12");
    if (part.size() == rest.size()) break;
    rest.remove_prefix(part.size() + 1);
  }
  const double sum = shares[0] + shares[1] + shares[2];
  if (shares[0] == 0) refuse("leaves nothing for training");
  for (double& share : shares) share /= sum;
  return shares;
}

}  // namespace cairn
