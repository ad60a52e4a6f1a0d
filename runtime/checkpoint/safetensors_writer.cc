#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {

std::optional<uint64_t> SafetensorsDTypeBytes(std::string_view dtype) {
  static constexpr auto kSizes = std::to_array<std::pair<std::string_view, uint64_t>>({
      {"BOOL", 1},
      {"U8", 1},
      {"I8", 1},
      {"F8_E4M3", 1},
      {"F8_E5M2", 1},
      {"F8_E8M0", 1},
      {"U16", 2},
      {"I16", 2},
      {"F16", 2},
      {"BF16", 2},
      {"U32", 4},
      {"I32", 4},
      {"F32", 4},
      {"U64", 8},
      {"I64", 8},
      {"F64", 8},
      {"C64", 8},
  });
  for (const auto& [name, bytes] : kSizes) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

std::optional<uint64_t> TensorBytes(std::string_view dtype, std::span<const int64_t> shape) {
  const std::optional<uint64_t> element = SafetensorsDTypeBytes(dtype);
  const std::optional<uint64_t> elements = CheckedElements(shape);
  uint64_t bytes = 0;
  if (!element || !elements || shape.size() > kMaxRank) return std::nullopt;
  if (__builtin_mul_overflow(*element, *elements, &bytes)) return std::nullopt;
  return bytes;
}

std::string BuildSafetensorsHeader(std::span<const SafetensorsTensor> tensors,
                                   const std::map<std::string, std::string>& metadata,
                                   const std::string& where) {
  // Members keep the order of the bytes; the names are checked apart.
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  nlohmann::ordered_json::object_t& members = json.get_ref<nlohmann::ordered_json::object_t&>();
  if (!metadata.empty()) members.emplace_back("__metadata__", metadata);
  std::unordered_set<std::string_view> names = {"__metadata__"};
  uint64_t begin = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes) {
      Throw(ErrorKind::kCheckpoint, where, "a tensor name has {} bytes, 1 to {} are accepted",
            tensor.name.size(), kMaxTensorNameBytes);
    }
    if (!names.insert(tensor.name).second) {
      Throw(ErrorKind::kCheckpoint, where, "tensor name \"{}\" is taken", tensor.name);
    }
    const std::optional<uint64_t> bytes = TensorBytes(tensor.dtype, tensor.shape);
    if (bytes != tensor.data.size()) {
      Throw(ErrorKind::kCheckpoint, where, "tensor \"{}\": {} bytes given for {} of dtype {}",
            tensor.name, tensor.data.size(), nlohmann::json(tensor.shape).dump(), tensor.dtype);
    }
    nlohmann::ordered_json entry;
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {begin, begin + *bytes};
    begin += *bytes;
    members.emplace_back(tensor.name, std::move(entry));
  }

  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::exception& error) {
    Throw(ErrorKind::kCheckpoint, where, "a name or metadata is not UTF-8: {}", error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  if (length > kMaxSafetensorsHeaderBytes) {
    Throw(ErrorKind::kCheckpoint, where, "the header would have {} bytes, at most {} can be",
          length, kMaxSafetensorsHeaderBytes);
  }
  std::string header(sizeof(length), '\0');
  std::memcpy(header.data(), &length, sizeof(length));
  return header + text;
}

void WriteSafetensorsFile(const std::string& path, const std::string& header,
                          std::span<const SafetensorsTensor> tensors,
                          const BlockObserver& observe) {
  WriteFileAtomically(path, [&](File& file) {
    file.Write(std::as_bytes(std::span(header)));
    for (size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].data.ForEachBlock(kCrcBlockBytes, [&](std::span<const std::byte> block) {
        if (observe) observe(i, block);
        file.Write(block);
      });
    }
  });
}

void WriteSafetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                      const std::map<std::string, std::string>& metadata) {
  WriteSafetensorsFile(path, BuildSafetensorsHeader(tensors, metadata, path), tensors);
}

}  // namespace cairn
