#include "launcher/hugging_face_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_set>
#include <utility>

#include "launcher/tensor_stream.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/tiling.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kSingleFile = "model.safetensors";
constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;
constexpr int kMaxJsonDepth = 64;
constexpr int64_t kPieceElements = int64_t{1} << 20;

bool Exists(const std::string& directory, const char* name) {
  std::error_code ignored;  // opening it will say what is wrong
  return fs::exists(JoinPath(directory, name), ignored);
}

// The weight_map of an index: which file holds which tensor. Files are plain names in the folder.
std::unordered_map<std::string, std::string> ReadIndex(const std::string& path) {
  const Json index = ReadStrictJson(path, kMaxIndexBytes);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object() || map->empty()) {
    Throw(ErrorKind::kCheckpoint, path, "has no weight_map from tensors to files");
  }
  std::unordered_map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.find('/') != std::string::npos || name.find('\0') != std::string::npos ||
        name.starts_with('.') || !name.ends_with(".safetensors")) {
      Throw(ErrorKind::kCheckpoint, path,
            "weight_map, tensor {}: {} is not the plain name of a .safetensors file",
            Quoted(tensor), Quoted(name));
    }
    files.emplace(tensor, name);
  }
  return files;
}

}  // namespace

std::string HuggingFaceFileName(size_t shard, size_t shards) {
  if (shards == 1) return kSingleFile;
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
}

Json ReadStrictJson(const std::string& path, uint64_t max_bytes) {
  const std::string text = ReadWholeFile(path, max_bytes);
  // The JSON library takes a zero byte for the end of its input.
  if (text.find('\0') != std::string::npos) {
    Throw(ErrorKind::kCheckpoint, path, "has a zero byte; JSON has none");
  }
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxJsonDepth) {
      Throw(ErrorKind::kCheckpoint, path, "is nested more than {} levels deep", kMaxJsonDepth);
    }
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed).second) {
      Throw(ErrorKind::kCheckpoint, path, "has the key {} twice in one object",
            Quoted(parsed.get<std::string>()));
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::parse_error& error) {
    Throw(ErrorKind::kCheckpoint, fmt::format("{}: byte {}", path, error.byte), "not valid JSON");
  } catch (const Json::exception& error) {
    Throw(ErrorKind::kCheckpoint, path, "not valid JSON: {}", Printable(error.what()));
  }
}

void MakeNewFolder(const std::string& path) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(path, error)) &&
      !(fs::is_directory(path, error) && fs::is_empty(path, error))) {
    Throw(ErrorKind::kUsage, path, "exists already; name a folder that does not, or an empty one");
  }
  MakeDirectories(path);
}

HuggingFaceFolder::HuggingFaceFolder(const std::string& directory, std::string_view prefix) {
  if (Exists(directory, kSingleFile)) {
    Add(std::make_unique<SafetensorsFile>(JoinPath(directory, kSingleFile)), prefix);
    return;
  }
  if (!Exists(directory, kHuggingFaceIndexFile)) {
    Throw(ErrorKind::kCheckpoint, directory,
          "has neither {} nor {}; from another format, save_pretrained(..., "
          "safe_serialization=True) of transformers makes them",
          kSingleFile, kHuggingFaceIndexFile);
  }
  const std::string index_path = JoinPath(directory, kHuggingFaceIndexFile);
  std::unordered_map<std::string, std::string> missing = ReadIndex(index_path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : missing) names.insert(file);
  for (const std::string& name : names) {
    auto file = std::make_unique<SafetensorsFile>(JoinPath(directory, name));
    for (const SafetensorsEntry& entry : file->header().entries) {
      const auto mapped = missing.find(entry.name);
      if (mapped == missing.end() || mapped->second != name) {
        Throw(ErrorKind::kCheckpoint, file->file().path(),
              "holds tensor {}, which {} does not place there", Quoted(entry.name),
              kHuggingFaceIndexFile);
      }
      missing.erase(mapped);
    }
    Add(std::move(file), prefix);
  }
  if (missing.empty()) return;
  Throw(ErrorKind::kCheckpoint, index_path, "places tensor {} in {}, which does not hold it",
        Quoted(missing.begin()->first), missing.begin()->second);
}

void HuggingFaceFolder::Add(std::unique_ptr<SafetensorsFile> file, std::string_view prefix) {
  for (const SafetensorsEntry& entry : file->header().entries) {
    const std::string name =
        entry.name.starts_with(prefix) ? entry.name.substr(prefix.size()) : entry.name;
    const auto [found, is_new] = index_.emplace(name, tensors_.size());
    if (!is_new) {
      Throw(ErrorKind::kCheckpoint, file->file().path(), "tensors {} and {} are one to a GPT-2",
            Quoted(tensors_[found->second].name), Quoted(entry.name));
    }
    tensors_.push_back({entry.name, file.get(), &entry});
  }
  files_.push_back(std::move(file));
}

const HuggingFaceFolder::Tensor* HuggingFaceFolder::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void ReadSlab(const HuggingFaceFolder::Tensor& tensor, DType dtype,
              std::span<const int64_t> extents, int axis, int64_t begin, int64_t count,
              std::span<float> out) {
  const std::vector<int64_t> zeros(extents.size(), 0);
  std::vector<int64_t> offset = zeros;
  std::vector<int64_t> extent(extents.begin(), extents.end());
  offset[axis] = begin;
  extent[axis] = count;
  const auto element = static_cast<uint64_t>(DTypeSize(dtype));
  std::vector<std::byte> piece;
  ForEachRun({zeros, extents}, {offset, extent}, [&](const CommonRun& run) {
    for (uint64_t done = 0; done < run.length; done += kPieceElements) {
      const uint64_t elements = std::min<uint64_t>(kPieceElements, run.length - done);
      piece.resize(elements * element);
      tensor.file->Read(*tensor.entry, (run.chunk_begin + done) * element, piece);
      DecodeFloats(dtype, piece, out.subspan(run.wanted_begin + done, elements));
    }
  });
}

}  // namespace cairn
