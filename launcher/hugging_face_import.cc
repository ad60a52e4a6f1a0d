#include "launcher/hugging_face_import.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "launcher/hugging_face_folder.h"
#include "launcher/tensor_stream.h"
#include "model/families/gpt/hugging_face.h"
#include "model/families/gpt/hugging_face_config.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/store.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/config/config.h"
#include "runtime/config/text.h"
#include "runtime/data/tokenizer.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr const char* kOutputLayer = "lm_head.weight";
constexpr int64_t kPieceElements = int64_t{1} << 20;

// A tensor of Cairn's, and where its values come from.
struct Match {
  HuggingFaceTensor tensor;
  const HuggingFaceFolder::Tensor* source = nullptr;
  DType dtype = DType::kFloat32;  // of the source
};

// The causal masks that older versions of transformers stored beside the weights.
bool IsMask(std::string_view name) {
  constexpr std::string_view kModel = "transformer.";
  constexpr std::string_view kLayer = "h.";
  if (name.starts_with(kModel)) name.remove_prefix(kModel.size());
  if (!name.starts_with(kLayer)) return false;
  name.remove_prefix(kLayer.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  name.remove_prefix(digits);
  return digits > 0 && (name == ".attn.bias" || name == ".attn.masked_bias");
}

DType CheckedDType(const HuggingFaceFolder::Tensor& source, std::span<const int64_t> shape) {
  const std::optional<DType> dtype = FloatingDType(source.entry->dtype);
  if (!dtype || !std::ranges::equal(source.entry->shape, shape)) {
    Throw(ErrorKind::kCheckpoint, source.file->file().path(),
          "tensor {} is {} [{}]; {} makes it [{}] of F32, BF16 or F16", Quoted(source.name),
          source.entry->dtype, fmt::join(source.entry->shape, ","), kHuggingFaceConfigFile,
          fmt::join(shape, ","));
  }
  return *dtype;
}

// Finds each tensor of the model in the folder, whose other tensors must be known to mean nothing.
std::vector<Match> MatchTensors(const HuggingFaceFolder& folder, const GptConfig& config,
                                const std::string& directory) {
  // Before a table of that many tensors is made.
  const int64_t wanted = HuggingFaceTensorCount(config.num_layers);
  if (std::ssize(folder.tensors()) < wanted) {
    Throw(ErrorKind::kCheckpoint, JoinPath(directory, kHuggingFaceConfigFile),
          "n_layer: {} layers are {} tensors, the folder holds {}", config.num_layers, wanted,
          folder.tensors().size());
  }
  std::vector<Match> matches;
  std::unordered_set<const HuggingFaceFolder::Tensor*> used;
  for (HuggingFaceTensor& tensor : HuggingFaceTensors(config)) {
    const HuggingFaceFolder::Tensor* const source = folder.Find(tensor.hugging_face_name);
    if (source == nullptr) {
      Throw(ErrorKind::kCheckpoint, directory, "has no tensor {}{}", kHuggingFacePrefix,
            tensor.hugging_face_name);
    }
    const DType dtype = CheckedDType(*source, tensor.hugging_face_shape);
    used.insert(source);
    matches.push_back({std::move(tensor), source, dtype});
  }
  for (const HuggingFaceFolder::Tensor& tensor : folder.tensors()) {
    if (used.contains(&tensor) || IsMask(tensor.name) || tensor.name == kOutputLayer) continue;
    Throw(ErrorKind::kCheckpoint, tensor.file->file().path(),
          "tensor {} has no place in a GPT-2 of {} layers", Quoted(tensor.name), config.num_layers);
  }
  return matches;
}

// Cairn's output layer is the token embedding: refuses a folder whose own differs.
void CheckOutputLayer(const HuggingFaceFolder& folder, const Match& embedding, bool tied,
                      const std::string& directory) {
  const HuggingFaceFolder::Tensor* const output = folder.Find(kOutputLayer);
  const std::string field =
      fmt::format("{}: tie_word_embeddings", JoinPath(directory, kHuggingFaceConfigFile));
  if (output == nullptr) {
    if (tied) return;
    Throw(ErrorKind::kCheckpoint, field,
          "is false, and the folder has no {}; Cairn's output layer is the token embedding",
          kOutputLayer);
  }
  const std::vector<int64_t>& shape = embedding.tensor.shape;
  const DType dtype = CheckedDType(*output, shape);
  const int64_t elements = shape[0] * shape[1];
  std::vector<float> theirs;
  std::vector<float> ours;
  for (int64_t begin = 0; begin < elements; begin += kPieceElements) {
    const int64_t count = std::min(kPieceElements, elements - begin);
    theirs.resize(count);
    ours.resize(count);
    const std::array<int64_t, 1> flat = {elements};
    ReadSlab(*output, dtype, flat, 0, begin, count, theirs);
    ReadSlab(*embedding.source, embedding.dtype, flat, 0, begin, count, ours);
    if (std::memcmp(theirs.data(), ours.data(), count * sizeof(float)) == 0) continue;
    Throw(ErrorKind::kCheckpoint, output->file->file().path(),
          "tensor {} differs from the token embedding; Cairn's GPT has one matrix for both",
          Quoted(kOutputLayer));
  }
}

// The path of a tokenizer that lies in the folder and fits the model; else empty, and why.
std::string FindTokenizer(const std::string& directory, int64_t vocab_size, std::string& note) {
  std::error_code ignored;
  const fs::path folder = fs::absolute(directory, ignored).lexically_normal();
  fs::path path = folder / "tokenizer.json";
  if (!fs::exists(path, ignored)) {
    path = folder;
    if (!fs::exists(folder / "vocab.json", ignored)) {
      note = "the folder has neither tokenizer.json nor vocab.json with merges.txt";
      return "";
    }
  }
  try {
    const int64_t tokens = LoadTokenizer(path)->vocab_size();
    if (tokens <= vocab_size) return path;
    note = fmt::format("{}: has {} tokens, the model {}", path.string(), tokens, vocab_size);
  } catch (const Error& error) {
    note = error.what();
  }
  return "";
}

// A config that trains the model further. The batch, the length and the learning rate of the run
// are modest ones for fine-tuning: a config has to name some.
TrainConfig MakeTrainConfig(const GptConfig& gpt, const std::string& directory,
                            const std::string& tokenizer) {
  TrainConfig config;
  auto& model = *config.mutable_model();
  const TransformerLayerConfig& layer = gpt.layer;
  std::error_code ignored;
  const fs::path folder = fs::absolute(directory + "/", ignored).lexically_normal().parent_path();
  model.set_name(Printable(folder.filename().string()));
  model.set_num_layers(static_cast<int32_t>(gpt.num_layers));
  model.set_hidden_size(layer.hidden_size);
  if (layer.ffn_hidden_size != 4 * layer.hidden_size) {
    model.set_ffn_hidden_size(layer.ffn_hidden_size);
  }
  model.set_num_attention_heads(static_cast<int32_t>(layer.num_attention_heads));
  model.set_seq_length(gpt.seq_length);
  // Said although it follows from seq_length, so that a run can choose a shorter one.
  model.set_max_position_embeddings(gpt.max_position_embeddings);
  model.set_vocab_size(gpt.vocab_size);
  model.set_init_method_std(layer.init_std);
  model.set_hidden_dropout(layer.hidden_dropout);
  model.set_attention_dropout(layer.attention_dropout);
  model.set_norm_epsilon(layer.norm_epsilon);
  config.mutable_train()->set_global_batch_size(8);
  config.mutable_train()->set_train_iters(1000);
  config.mutable_optimizer()->set_lr(5e-5);
  config.mutable_optimizer()->set_lr_warmup_iters(100);
  if (!tokenizer.empty()) config.mutable_data()->set_tokenizer(tokenizer);
  return config;
}

// The text of the config, which others will have to parse: it does, and its values fit together.
// What does not is told by the field of config.json that it came from.
std::string CheckedConfigText(const TrainConfig& config, const std::string& directory) {
  static constexpr std::array<std::pair<const char*, const char*>, 10> kFields = {
      {{"model.num_layers", "n_layer"},
       {"model.hidden_size", "n_embd"},
       {"model.ffn_hidden_size", "n_inner"},
       {"model.num_attention_heads", "n_head"},
       {"model.max_position_embeddings", "n_positions"},
       {"model.vocab_size", "vocab_size"},
       {"model.init_method_std", "initializer_range"},
       {"model.hidden_dropout", "resid_pdrop"},
       {"model.attention_dropout", "attn_pdrop"},
       {"model.norm_epsilon", "layer_norm_epsilon"}}};
  const std::string where = JoinPath(directory, kHuggingFaceConfigFile);
  std::string text = ConfigText(config);
  try {
    LoadedConfig loaded = ParseConfig({where, text}, {});
    loaded.locations = {};
    for (const auto& [field, theirs] : kFields) {
      loaded.locations.Set(field, fmt::format("{}: {}", where, theirs), false);
    }
    ValidateConfig(loaded, std::nullopt);
  } catch (const Error& error) {
    throw Error(ErrorKind::kCheckpoint, error.where(), error.message());
  }
  return text;
}

ShardResult WriteShard(const std::string& checkpoint, const std::vector<Match>& matches,
                       int64_t slab_bytes) {
  ShardWriter writer(checkpoint, ShardFileName(0));
  for (const Match& match : matches) {
    // Hugging Face's array, and the way back from it.
    std::vector<int64_t> extents;
    std::vector<int> order(match.tensor.order.size());
    for (size_t k = 0; k < order.size(); ++k) {
      extents.push_back(match.tensor.axes[match.tensor.order[k]]);
      order[match.tensor.order[k]] = static_cast<int>(k);
    }
    const int axis = order[0];
    const SlabReader read = [&match, extents, axis](int64_t begin, int64_t count,
                                                    std::span<float> out) {
      ReadSlab(*match.source, match.dtype, extents, axis, begin, count, out);
    };
    writer.Add({match.tensor.name, kWeightKind, SafetensorsName(DType::kFloat32),
                match.tensor.shape, std::vector<int64_t>(match.tensor.shape.size(), 0),
                match.tensor.shape,
                PermutedSource(extents, order, DType::kFloat32, slab_bytes, read)});
  }
  return writer.Write();
}

}  // namespace

HuggingFaceImport ImportHuggingFace(const std::string& folder, const std::string& checkpoint,
                                    int64_t slab_bytes) {
  const std::string config_path = JoinPath(folder, kHuggingFaceConfigFile);
  const nlohmann::json json = ReadStrictJson(config_path, kMaxConfigBytes);
  const GptConfig gpt = ParseHuggingFaceConfig(json, config_path);
  HuggingFaceImport result;
  result.tokenizer = FindTokenizer(folder, gpt.vocab_size, result.tokenizer_note);
  const std::string config_text =
      CheckedConfigText(MakeTrainConfig(gpt, folder, result.tokenizer), folder);

  const HuggingFaceFolder files(folder, kHuggingFacePrefix);
  const std::vector<Match> matches = MatchTensors(files, gpt, folder);
  const auto tied = json.find("tie_word_embeddings");
  CheckOutputLayer(files, matches[0], tied == json.end() || *tied == true, folder);

  const fs::path path = fs::path(checkpoint + "/").lexically_normal().parent_path();
  if (ParseStepName(path.filename()).value_or(0) != 0) {
    Throw(ErrorKind::kUsage, checkpoint, "an import is iteration 0; such a step folder is {}",
          StepName(0));
  }
  MakeNewFolder(checkpoint);
  try {
    ShardResult shard = WriteShard(checkpoint, matches, slab_bytes);
    const std::vector<Damage> damages = VerifyShardFile(checkpoint, shard);
    if (!damages.empty()) throw Error(ErrorKind::kCheckpoint, checkpoint, Describe(damages[0]));
    result.config_file = JoinPath(checkpoint, "config.textproto");
    WriteFileAtomically(result.config_file, config_text);
    result.bytes = shard.file.size;
    Manifest manifest;
    manifest.config_text = config_text;
    MergeShards({std::move(shard)}, manifest);
    CommitCheckpoint(checkpoint, manifest);
  } catch (...) {
    AbortCheckpoint(checkpoint);
    throw;
  }
  result.tensors = matches.size();
  for (const Match& match : matches) {
    uint64_t elements = 1;
    for (const int64_t extent : match.tensor.shape) elements *= static_cast<uint64_t>(extent);
    result.parameters += elements;
  }
  return result;
}

}  // namespace cairn
