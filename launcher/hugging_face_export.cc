#include "launcher/hugging_face_export.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/checkpoint_fit.h"
#include "launcher/factories.h"
#include "launcher/hugging_face_folder.h"
#include "launcher/tensor_stream.h"
#include "model/families/gpt/hugging_face.h"
#include "model/families/gpt/hugging_face_config.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/data/tokenizer.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxTokenizerBytes = uint64_t{256} << 20;

const char* TorchName(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    default:
      return "float32";
  }
}

// The model of a checkpoint, which GPT-2 must be able to express.
GptConfig ModelOf(const CheckpointReader& reader) {
  const std::string& where = reader.directory();
  LoadedConfig loaded;
  loaded.config = ConfigOf(reader.manifest(), where);
  loaded.source = where;
  if (!loaded.config.model().has_vocab_size()) {
    Throw(ErrorKind::kCheckpoint, where, "the config inside the manifest has no model.vocab_size");
  }
  try {
    ValidateConfig(loaded, std::nullopt);
  } catch (const Error& error) {
    Throw(ErrorKind::kCheckpoint, where, "the config inside the manifest does not fit: {}",
          error.what());
  }
  const GptConfig config = MakeGptConfig(loaded.config);
  const TransformerLayerConfig& layer = config.layer;
  if (layer.num_query_groups != layer.num_attention_heads) {
    Throw(ErrorKind::kCheckpoint, where,
          "model.num_query_groups is {} for {} attention heads; GPT-2 has a key and a value for "
          "each head, and no form for shared ones",
          layer.num_query_groups, layer.num_attention_heads);
  }
  return config;
}

// The weights of the model, each of the shape that its config makes it, and no others.
std::vector<HuggingFaceTensor> CheckedTensors(const CheckpointReader& reader,
                                              const GptConfig& config) {
  const int64_t weights =
      std::ranges::count(reader.manifest().tensors, std::string(kWeightKind), &TensorEntry::kind);
  // Before a table of that many tensors is made.
  if (weights != HuggingFaceTensorCount(config.num_layers)) {
    Throw(ErrorKind::kCheckpoint, reader.directory(),
          "holds {} weights, {} layers have {}: its config is of another model", weights,
          config.num_layers, HuggingFaceTensorCount(config.num_layers));
  }
  std::vector<HuggingFaceTensor> tensors = HuggingFaceTensors(config);
  for (const HuggingFaceTensor& tensor : tensors) {
    const TensorEntry* const entry = reader.Find(tensor.name, kWeightKind);
    if (entry == nullptr || entry->shape != tensor.shape || !FloatingDType(entry->dtype)) {
      Throw(ErrorKind::kCheckpoint, reader.directory(),
            "tensor \"{}\" ({}) is {}, its config makes it F32, BF16 or F16 [{}]", tensor.name,
            kWeightKind,
            entry == nullptr ? "missing"
                             : fmt::format("{} [{}]", entry->dtype, fmt::join(entry->shape, ",")),
            fmt::join(tensor.shape, ","));
    }
  }
  return tensors;
}

// Reads what a PermutedSource of `tensor` asks for.
SlabReader MakeReader(CheckpointReader& reader, const HuggingFaceTensor& tensor) {
  return [&reader, &tensor](int64_t begin, int64_t count, std::span<float> out) {
    // The slabs' axis is the first or the last dimension, or (of a vector, which is small) whole.
    const int axis = tensor.order[0];
    const size_t dimension = axis == 0 ? 0 : tensor.shape.size() - 1;
    std::vector<int64_t> offset(tensor.shape.size(), 0);
    std::vector<int64_t> extent = tensor.shape;
    if (count != tensor.axes[axis]) {
      offset[dimension] = begin;
      extent[dimension] = count;
    }
    const DType dtype =
        FloatingDType(reader.Find(tensor.name, kWeightKind)->dtype).value_or(DType::kFloat32);
    if (dtype == DType::kFloat32) {
      reader.Read(tensor.name, kWeightKind, offset, extent, std::as_writable_bytes(out));
      return;
    }
    std::vector<std::byte> bytes(out.size() * DTypeSize(dtype));
    reader.Read(tensor.name, kWeightKind, offset, extent, bytes);
    DecodeFloats(dtype, bytes, out);
  };
}

// Tensors in their order, a new file wherever the next would make one too large.
std::vector<std::vector<SafetensorsTensor>> SplitIntoFiles(std::vector<SafetensorsTensor> tensors,
                                                           uint64_t max_bytes) {
  std::vector<std::vector<SafetensorsTensor>> files;
  uint64_t bytes = 0;
  for (SafetensorsTensor& tensor : tensors) {
    const uint64_t size = tensor.data.size();
    if (files.empty() || size > max_bytes - std::min(bytes, max_bytes)) {
      files.emplace_back();
      bytes = 0;
    }
    bytes += size;
    files.back().push_back(std::move(tensor));
  }
  return files;
}

// Writes the folder's files and remembers them.
class FolderWriter {
 public:
  FolderWriter(const std::string& folder, HuggingFaceExport& result)
      : folder_(folder), result_(result) {}

  void WriteText(const std::string& name, const std::string& content) {
    WriteFileAtomically(JoinPath(folder_, name), content);
    result_.files.push_back({name, content.size()});
  }

  void WriteWeights(std::vector<SafetensorsTensor> tensors, uint64_t max_bytes) {
    const auto files = SplitIntoFiles(std::move(tensors), max_bytes);
    Json map = Json::object();
    uint64_t total = 0;
    for (size_t i = 0; i < files.size(); ++i) {
      const std::string name = HuggingFaceFileName(i, files.size());
      const std::string path = JoinPath(folder_, name);
      const std::string header = BuildSafetensorsHeader(files[i], {{"format", "pt"}}, path);
      WriteSafetensorsFile(path, header, files[i]);
      uint64_t bytes = 0;
      for (const SafetensorsTensor& tensor : files[i]) {
        map[tensor.name] = name;
        bytes += tensor.data.size();
      }
      result_.files.push_back({name, header.size() + bytes});
      total += bytes;
    }
    if (files.size() == 1) return;
    const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
    WriteText(kHuggingFaceIndexFile, index.dump(2) + "\n");
  }

  // Copies a tokenizer that Cairn can read; returns the token that ends a document.
  std::optional<int32_t> CopyTokenizer(const std::string& name) {
    if (name.empty() || name == "byte") {
      result_.tokenizer_note = name.empty()
                                   ? "the checkpoint's config names no data.tokenizer"
                                   : "data.tokenizer \"byte\" has no files of Hugging Face's";
      return std::nullopt;
    }
    try {
      const int32_t end = LoadTokenizer(name)->end_of_text();
      std::error_code ignored;
      if (!fs::is_directory(name, ignored)) {
        Copy(name, "tokenizer.json");
      } else if (const std::string file = JoinPath(name, "tokenizer.json");
                 fs::exists(file, ignored)) {
        Copy(file, "tokenizer.json");
      } else {
        for (const char* part : {"vocab.json", "merges.txt"}) Copy(JoinPath(name, part), part);
      }
      if (end >= 0) return end;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) throw;
      result_.tokenizer_note = error.what();
    }
    return std::nullopt;
  }

 private:
  void Copy(const std::string& from, const std::string& name) {
    WriteText(name, ReadWholeFile(from, kMaxTokenizerBytes));
  }

  const std::string& folder_;
  HuggingFaceExport& result_;
};

}  // namespace

HuggingFaceExport ExportHuggingFace(const std::string& checkpoint, const std::string& folder,
                                    const HuggingFaceExportOptions& options) {
  CheckpointReader reader(checkpoint);
  const GptConfig config = ModelOf(reader);
  const std::vector<HuggingFaceTensor> tensors = CheckedTensors(reader, config);
  HuggingFaceExport result;
  std::vector<SafetensorsTensor> outputs;
  for (const HuggingFaceTensor& tensor : tensors) {
    outputs.push_back({kHuggingFacePrefix + tensor.hugging_face_name,
                       SafetensorsName(options.dtype), tensor.hugging_face_shape,
                       PermutedSource(tensor.axes, tensor.order, options.dtype, options.slab_bytes,
                                      MakeReader(reader, tensor))});
    result.parameters += outputs.back().data.size() / DTypeSize(options.dtype);
  }
  result.tensors = tensors.size();
  MakeNewFolder(folder);
  FolderWriter writer(folder, result);
  writer.WriteWeights(std::move(outputs), options.max_shard_bytes);
  const std::optional<int32_t> end =
      writer.CopyTokenizer(ConfigOf(reader.manifest(), checkpoint).data().tokenizer());
  writer.WriteText(kHuggingFaceConfigFile,
                   HuggingFaceConfig(config, TorchName(options.dtype), end).dump(2) + "\n");
  return result;
}

}  // namespace cairn
