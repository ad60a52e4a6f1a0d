#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/tensor/dtype.h"

namespace cairn {

inline constexpr const char* kHuggingFaceConfigFile = "config.json";
inline constexpr const char* kHuggingFaceIndexFile = "model.safetensors.index.json";

/// "model.safetensors", or "model-00002-of-00003.safetensors" for shard 1 of 3.
std::string HuggingFaceFileName(size_t shard, size_t shards);

/// JSON of a file that others wrote. An Error of kind kCheckpoint at the file refuses more than
/// `max_bytes`, what is no JSON, a key that occurs twice, and nesting beyond 64 levels.
nlohmann::json ReadStrictJson(const std::string& path, uint64_t max_bytes);

/// Makes the folder that a command writes to. An Error of kind kUsage if there is anything but an
/// empty folder.
void MakeNewFolder(const std::string& path);

/// The weights of a folder that `save_pretrained` of Hugging Face's transformers wrote: one
/// safetensors file, or several with an index. Every failure is an Error of kind kCheckpoint or kIo
/// that names the file.
class HuggingFaceFolder {
 public:
  struct Tensor {
    std::string name;  ///< as its file calls it
    const SafetensorsFile* file = nullptr;
    const SafetensorsEntry* entry = nullptr;
  };

  /// Reads the headers of all files; they must hold what the index says, and nothing else. Of the
  /// tensors' names, `prefix` is left off.
  HuggingFaceFolder(const std::string& directory, std::string_view prefix);

  /// All tensors, in the order of the files.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// The tensor of that name, without the prefix; null if there is none.
  const Tensor* Find(const std::string& name) const;

 private:
  void Add(std::unique_ptr<SafetensorsFile> file, std::string_view prefix);

  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

/// Fills `out` from the rectangle of `tensor`, taken for an array of `extents` elements of `dtype`,
/// that is [begin, begin + count) on `axis` and whole on the others.
void ReadSlab(const HuggingFaceFolder::Tensor& tensor, DType dtype,
              std::span<const int64_t> extents, int axis, int64_t begin, int64_t count,
              std::span<float> out);

}  // namespace cairn
