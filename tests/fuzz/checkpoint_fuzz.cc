#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/verify.h"
#include "tests/fuzz/checkpoint_input.h"
#include "tests/fuzz/fuzz_testing.h"
#include "tests/fuzz/manifest_mutator.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

// A whole folder: COMMIT, MANIFEST.pb and the shards. Sealed inputs come from someone who knows the
// format and makes every digest fit.

namespace cairn::fuzz {
namespace {

constexpr uint64_t kMostRead = uint64_t{1} << 20;

// COMMIT is text of up to 4 KiB through a stream; blocks are read through a buffer of their size.
constexpr MemoryBound kBound = {16, 64 << 10};

std::string Bytes(std::string_view shard, uint64_t begin, uint64_t end) {
  if (begin > end || end > shard.size()) return "";
  return std::string(shard.substr(begin, end - begin));
}

uint32_t Sum(std::string_view bytes) { return Crc32c(std::as_bytes(std::span(bytes))); }

// Makes the digests of `manifest` those of `shards`.
void Seal(Manifest& manifest, const std::vector<std::string>& shards) {
  for (size_t i = 0; i < std::min(manifest.files.size(), shards.size()); ++i) {
    FileEntry& file = manifest.files[i];
    file.header_crc32c = Sum(Bytes(shards[i], 0, file.header_bytes));
    Xxh3Stream whole;
    whole.Update(std::as_bytes(std::span(shards[i])));
    file.xxh3_128 = whole.HexDigest();
  }
  for (TensorEntry& tensor : manifest.tensors) {
    for (Chunk& chunk : tensor.chunks) {
      if (chunk.file >= shards.size() || chunk.crc32c.size() != 1) continue;
      chunk.crc32c[0] = Sum(Bytes(shards[chunk.file], chunk.file_offset,
                                  chunk.file_offset + ChunkBytes(tensor, chunk)));
    }
  }
}

// Reads all of a tensor, and compares each chunk that is whole rows of it with its file. True if it
// could be read.
bool ReadTensor(CheckpointReader& reader, const TensorEntry& tensor) {
  const uint64_t bytes = TensorBytes(tensor.dtype, tensor.shape).value();
  if (bytes > kMostRead) return true;
  std::string values(bytes, '\0');
  const std::vector<int64_t> zeros(tensor.shape.size(), 0);
  try {
    reader.Read(tensor.name, tensor.kind, zeros, tensor.shape,
                std::as_writable_bytes(std::span(values)));
  } catch (const Error& error) {
    CheckError(error, {ErrorKind::kCheckpoint, ErrorKind::kIo});
    return false;
  }
  if (tensor.chunks.size() == 1) {
    const Chunk& chunk = tensor.chunks[0];
    const std::string shard =
        ReadFile(JoinPath(reader.directory(), reader.manifest().files[chunk.file].name));
    CHECK(values == Bytes(shard, chunk.file_offset, chunk.file_offset + bytes));
  }
  return true;
}

void CheckFolder(const std::string& directory, size_t input_bytes) {
  const auto verify = [&](VerifyLevel level) {
    const auto damages =
        Try(input_bytes, kBound, {}, [&] { return VerifyCheckpoint(directory, level); }).value();
    for (const Damage& damage : damages) {
      CHECK(!damage.file.empty() && !damage.message.empty());
      CHECK_LE(damage.byte_begin, damage.byte_end) << Describe(damage);
    }
    return damages.empty();
  };
  const bool sound = verify(VerifyLevel::kFull);
  if (sound) CHECK(verify(VerifyLevel::kQuick));
  auto reader = Try(input_bytes, kBound, {ErrorKind::kCheckpoint},
                    [&] { return CheckpointReader(directory); });
  if (!reader) {
    CHECK(!sound);
    return;
  }
  for (const TensorEntry& tensor : reader->manifest().tensors) {
    if (!ReadTensor(*reader, tensor)) CHECK(!sound) << tensor.name;
  }
}

void RunOne(std::string_view bytes) {
  static const TemporaryFolder folder;
  const CheckpointInput input = Unpack(bytes);
  std::vector<std::string> names;
  WriteFile(folder / kCommitFile, input.commit);
  WriteFile(folder / kManifestFile, input.manifest);
  try {
    Manifest manifest = ParseManifest(input.manifest, "input");
    if (input.seal) {
      Seal(manifest, input.shards);
      WriteUncheckedCommit(folder.path(), SerializeManifest(manifest), manifest.iteration);
    }
    for (const FileEntry& file : manifest.files) names.push_back(file.name);
  } catch (const Error&) {
    // Without a manifest there is no name for a shard.
  }
  names.resize(std::min(names.size(), input.shards.size()));
  for (size_t i = 0; i < names.size(); ++i) WriteFile(folder / names[i], input.shards[i]);
  CheckFolder(folder.path(), bytes.size());
  for (const std::string& name : names) std::filesystem::remove(folder / name);
}

}  // namespace
}  // namespace cairn::fuzz

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  // Libraries make their tables once, whoever comes first.
  const cairn::TemporaryFolder run;
  const std::string directory = cairn::WriteSmallCheckpoint(run.path(), 1);
  CHECK(cairn::VerifyCheckpoint(directory, cairn::VerifyLevel::kFull).empty());
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  using namespace cairn::fuzz;
  std::mt19937 random(seed);
  CheckpointInput input = Unpack(AsText(data, size));
  const size_t room = max_size - std::min(max_size, Pack(input).size());
  switch (random() % 4) {
    case 0:
      input.commit = MutateBytes(input.commit, input.commit.size() + room);
      break;
    case 1:
      if (!input.shards.empty()) {
        std::string& shard = input.shards[random() % input.shards.size()];
        shard = MutateBytes(shard, shard.size() + room);
        break;
      }
      [[fallthrough]];
    case 2:
      input.manifest =
          MutateManifest(input.manifest, input.manifest.size() + room, random() & 0xffff);
      break;
    default:
      input.seal = !input.seal;
  }
  const std::string bytes = Pack(input);
  if (bytes.size() > max_size) return size;
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::fuzz::RunOne(cairn::fuzz::AsText(data, size));
  return 0;
}
