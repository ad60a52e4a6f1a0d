#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

// The input of the target "checkpoint": a whole folder in one string.

namespace cairn::fuzz {

struct CheckpointInput {
  bool seal = false;  ///< COMMIT and the digests are made to fit the rest
  std::string commit;
  std::string manifest;
  std::vector<std::string> shards;  ///< in the order of the manifest's files
};

/// The parts, each after its length.
inline std::string Pack(const CheckpointInput& input) {
  std::string bytes(1, input.seal ? '\1' : '\0');
  const auto add = [&](const std::string& part) {
    const auto length = static_cast<uint32_t>(part.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
    bytes += part;
  };
  add(input.commit);
  add(input.manifest);
  for (const std::string& shard : input.shards) add(shard);
  return bytes;
}

/// The inverse; a length that is too long means all that is left.
inline CheckpointInput Unpack(std::string_view bytes) {
  CheckpointInput input;
  if (bytes.empty()) return input;
  input.seal = (bytes.front() & 1) != 0;
  bytes.remove_prefix(1);
  const auto take = [&] {
    uint32_t length = 0;
    if (bytes.size() >= sizeof(length)) {
      std::memcpy(&length, bytes.data(), sizeof(length));
      bytes.remove_prefix(sizeof(length));
    }
    const std::string part(bytes.substr(0, length));
    bytes.remove_prefix(part.size());
    return part;
  };
  input.commit = take();
  input.manifest = take();
  while (bytes.size() >= sizeof(uint32_t)) input.shards.push_back(take());
  return input;
}

}  // namespace cairn::fuzz
