#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/store.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

// Every byte of a checkpoint vouched for: nothing can change unseen, and what changed is named.

namespace cairn {
namespace {

using ::testing::HasSubstr;

const char* const kFiles[] = {"COMMIT", "MANIFEST.pb", "shard-00000.safetensors",
                              "shard-00001.safetensors"};

// Whether some damage is in `file` and reaches byte `at`.
bool Locates(const std::vector<Damage>& damages, const std::string& file, uint64_t at) {
  return std::ranges::any_of(damages, [&](const Damage& damage) {
    return damage.file == file && damage.byte_begin <= at && at < damage.byte_end;
  });
}

std::string Flipped(const std::string& image, size_t at, int mask) {
  std::string damaged = image;
  damaged[at] = static_cast<char>(damaged[at] ^ mask);
  return damaged;
}

// All tensors of a checkpoint as its reader gives them out; nothing where it refuses.
std::optional<std::vector<std::string>> ReadAll(const std::string& directory) {
  std::vector<std::string> tensors;
  try {
    CheckpointReader reader(directory);
    for (const TensorEntry& tensor : reader.manifest().tensors) {
      std::string& values = tensors.emplace_back(*TensorBytes(tensor.dtype, tensor.shape), '\0');
      const std::vector<int64_t> zeros(tensor.shape.size(), 0);
      reader.Read(tensor.name, tensor.kind, zeros, tensor.shape,
                  std::as_writable_bytes(std::span(values)));
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return tensors;
}

TEST(DamageTest, ASoundCheckpointHasNone) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kQuick).empty());
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kFull).empty());
}

TEST(DamageTest, EveryFlippedByteIsLocated) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    const std::string image = ReadFile(path);
    for (size_t at = 0; at < image.size(); ++at) {
      std::vector<int> masks = {1 << (at % 8), 0xff};
      // Every bit of a sample.
      for (int bit = 0; at % 7 == 0 && bit < 8; ++bit) masks.push_back(1 << bit);
      for (const int mask : masks) {
        WriteFile(path, Flipped(image, at, mask));
        const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kFull);
        ASSERT_TRUE(Locates(damages, name, at)) << name << " byte " << at << " mask " << mask;
        // Nothing else is blamed.
        for (const Damage& damage : damages) ASSERT_EQ(damage.file, name);
      }
    }
    WriteFile(path, image);
  }
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kFull).empty());
}

// What quick verification promises: all but the data itself.
TEST(DamageTest, QuickVerificationFindsEveryFlipOutsideTheData) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    const std::string image = ReadFile(path);
    const bool is_shard = std::string(name).ends_with(".safetensors");
    const uint64_t data = is_shard ? SafetensorsFile(path).header().header_bytes : image.size();
    for (size_t at = 0; at < image.size(); ++at) {
      WriteFile(path, Flipped(image, at, 1 << (at % 8)));
      ASSERT_EQ(Locates(VerifyCheckpoint(directory, VerifyLevel::kQuick), name, at), at < data)
          << name << " byte " << at;
    }
    WriteFile(path, image);
  }
}

// A byte that is changed or gone is never handed out: its tensor cannot be read.
TEST(DamageTest, TheReaderNeverReturnsChangedBytes) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  ASSERT_TRUE(ReadAll(directory).has_value());
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    const std::string image = ReadFile(path);
    for (size_t at = 0; at < image.size(); ++at) {
      WriteFile(path, Flipped(image, at, 1 << (at % 8)));
      ASSERT_FALSE(ReadAll(directory).has_value()) << name << " byte " << at;
      WriteFile(path, image.substr(0, at));
      ASSERT_FALSE(ReadAll(directory).has_value()) << name << " cut to " << at;
    }
    WriteFile(path, image);
  }
}

// Damage is located to the block of 4 MiB, and the other blocks can still be read.
TEST(DamageTest, AFlippedByteOfALargeTensorNamesItsBlock) {
  const TemporaryFolder folder;
  const std::string directory = BeginCheckpoint(folder.path(), 1);
  // Two blocks and a bit, then another tensor.
  const std::vector<float> large = Values(2 * kCrcBlockBytes / sizeof(float) + 5, 1);
  const std::vector<float> small = Values(3, 2);
  const auto rows = std::ssize(large);
  ShardWriter writer(directory, "s.safetensors");
  writer.Add({"large", "weight", "F32", {rows}, {0}, {rows}, std::as_bytes(std::span(large))});
  writer.Add({"small", "weight", "F32", {3}, {0}, {3}, std::as_bytes(std::span(small))});
  Manifest manifest;
  manifest.iteration = 1;
  MergeShards({writer.Write()}, manifest);
  CommitCheckpoint(directory, manifest);

  const std::string path = directory + "/s.safetensors";
  const uint64_t size = std::filesystem::file_size(path);
  const uint64_t data = SafetensorsFile(path).header().header_bytes;
  const uint64_t tail = data + 2 * kCrcBlockBytes;
  struct Block {
    uint64_t begin;
    uint64_t end;
    const char* tensor;
  };
  const Block blocks[] = {{0, data, ""},
                          {data, data + kCrcBlockBytes, "large"},
                          {data + kCrcBlockBytes, tail, "large"},
                          {tail, tail + 5 * sizeof(float), "large"},
                          {tail + 5 * sizeof(float), size, "small"}};
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto flip = [&](uint64_t at) {
    file.seekg(static_cast<std::streamoff>(at));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(byte ^ 0x20)).flush();
  };
  for (const Block& block : blocks) {
    for (const uint64_t at : {block.begin, (block.begin + block.end) / 2, block.end - 1}) {
      flip(at);
      const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kFull);
      ASSERT_EQ(damages.size(), 1U) << at;
      EXPECT_EQ(damages[0].tensor, block.tensor) << at;
      EXPECT_EQ(damages[0].byte_begin, block.begin) << at;
      EXPECT_EQ(damages[0].byte_end, block.end) << at;
      flip(at);
    }
  }
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kFull).empty());
  flip(data);
  CheckpointReader reader(directory);
  std::vector<float> value(1);
  const auto read = [&](int64_t at) {
    reader.Read("large", "weight", std::vector<int64_t>{at}, std::vector<int64_t>{1},
                std::as_writable_bytes(std::span(value)));
  };
  EXPECT_THROW(read(0), Error);
  EXPECT_THROW(read(kCrcBlockBytes / sizeof(float) - 1), Error);
  read(kCrcBlockBytes / sizeof(float));
  EXPECT_EQ(value[0], large[kCrcBlockBytes / sizeof(float)]);
}

TEST(DamageTest, AFlippedByteOfDataNamesItsTensorAlone) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  for (const char* name : {kFiles[2], kFiles[3]}) {
    const std::string path = directory + "/" + name;
    const std::string image = ReadFile(path);
    const SafetensorsHeader header = SafetensorsFile(path).header();
    for (const SafetensorsEntry& entry : header.entries) {
      for (uint64_t at = entry.begin; at < entry.end; ++at) {
        std::string damaged = image;
        damaged[header.header_bytes + at] ^= 0x10;
        WriteFile(path, damaged);
        const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kFull);
        ASSERT_EQ(damages.size(), 1U);
        EXPECT_TRUE(entry.name.starts_with(damages[0].tensor));
        EXPECT_EQ(damages[0].kind == "weight", entry.name.find('@') == std::string::npos);
        EXPECT_EQ(damages[0].byte_begin, header.header_bytes + entry.begin);
        EXPECT_EQ(damages[0].byte_end, header.header_bytes + entry.end);
      }
    }
    WriteFile(path, image);
  }
}

TEST(DamageTest, EveryTruncationIsLocated) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    const std::string image = ReadFile(path);
    for (size_t size = 0; size < image.size(); ++size) {
      WriteFile(path, image.substr(0, size));
      for (const VerifyLevel level : {VerifyLevel::kQuick, VerifyLevel::kFull}) {
        const std::vector<Damage> damages = VerifyCheckpoint(directory, level);
        ASSERT_FALSE(damages.empty()) << name << " cut to " << size;
        ASSERT_EQ(damages[0].file, name);
        // A cut COMMIT knows no longer how long it was.
        if (name != kFiles[0]) {
          ASSERT_TRUE(Locates(damages, name, size)) << name << " cut to " << size;
          ASSERT_TRUE(Locates(damages, name, image.size() - 1)) << name << " cut to " << size;
        }
      }
    }
    for (const VerifyLevel level : {VerifyLevel::kQuick, VerifyLevel::kFull}) {
      for (const size_t more : {1, 8, 5000}) {
        WriteFile(path, image + std::string(more, 'x'));
        const std::vector<Damage> damages = VerifyCheckpoint(directory, level);
        ASSERT_EQ(damages.size(), 1U) << name << " grown by " << more;
        EXPECT_EQ(damages[0].file, name);
        // A COMMIT of more than 4 KiB is not read.
        if (name == kFiles[0]) continue;
        EXPECT_TRUE(Locates(damages, name, image.size() + more - 1)) << name;
      }
    }
    WriteFile(path, image);
  }
}

TEST(DamageTest, MissingFilesAreNamed) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    std::filesystem::rename(path, folder / "away");
    std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kQuick);
    ASSERT_FALSE(damages.empty());
    EXPECT_EQ(damages[0].file, name);
    // A folder in its place must not hang or crash.
    std::filesystem::create_directory(path);
    damages = VerifyCheckpoint(directory, VerifyLevel::kFull);
    ASSERT_FALSE(damages.empty());
    EXPECT_EQ(damages[0].file, name);
    std::filesystem::remove(path);
    std::filesystem::rename(folder / "away", path);
  }
  // A lost shard names every tensor that was in it.
  std::filesystem::remove(directory + "/" + kFiles[2]);
  const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kQuick);
  const auto names = [&](const char* tensor, const char* kind) {
    return std::ranges::any_of(
        damages, [&](const Damage& d) { return d.tensor == tensor && d.kind == kind; });
  };
  EXPECT_TRUE(names("layers.0.mlp.fc1.weight", "weight"));
  EXPECT_TRUE(names("layers.0.mlp.fc1.weight", "exp_avg"));
  EXPECT_TRUE(names("counter", "weight"));
  EXPECT_FALSE(names("nothing", "weight"));  // it has no bytes to lose
}

TEST(DamageTest, WhatIsNoRegularFileIsNamed) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  const std::string away = folder / "away";
  const std::vector<std::pair<const char*, std::function<void(const std::string&)>>> kReplacements =
      {{"failed: Is a directory|is not a regular file",
        [](const std::string& path) { std::filesystem::create_directory(path); }},
       // A link is refused even where it leads to the right bytes: who copies the checkpoint would
       // copy the link.
       {"is a symbolic link",
        [&](const std::string& path) { std::filesystem::create_symlink(away, path); }},
       {"is a symbolic link",
        [&](const std::string& path) { std::filesystem::create_symlink("nowhere", path); }},
       {"is a symbolic link",
        [&](const std::string& path) { std::filesystem::create_symlink("/dev/zero", path); }},
       // Opening it must not wait for a writer.
       {"is not a regular file",
        [](const std::string& path) { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); }}};
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    for (const auto& [message, replace] : kReplacements) {
      std::filesystem::rename(path, away);
      replace(path);
      for (const VerifyLevel level : {VerifyLevel::kQuick, VerifyLevel::kFull}) {
        const std::vector<Damage> damages = VerifyCheckpoint(directory, level);
        ASSERT_FALSE(damages.empty()) << name << " " << message;
        EXPECT_EQ(damages[0].file, name);
        EXPECT_THAT(damages[0].message, ::testing::ContainsRegex(message));
      }
      EXPECT_FALSE(ReadAll(directory).has_value());
      std::filesystem::remove(path);
      std::filesystem::rename(away, path);
    }
  }
  // The folder itself may be a link: it is where the user points to.
  std::filesystem::create_directory_symlink(directory, folder / "link");
  EXPECT_TRUE(VerifyCheckpoint(folder / "link", VerifyLevel::kFull).empty());
}

TEST(DamageTest, WhatMayNotBeReadIsNamed) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  // The superuser may read everything: be somebody else for a while.
  const uid_t user = ::geteuid();
  const uid_t reader = user == 0 ? 65534 : user;
  for (const char* name : kFiles) {
    const std::string path = directory + "/" + name;
    std::filesystem::permissions(path, std::filesystem::perms(0));
    ASSERT_EQ(::seteuid(reader), 0);
    const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kQuick);
    ASSERT_EQ(::seteuid(user), 0);
    ASSERT_FALSE(damages.empty()) << name;
    EXPECT_EQ(damages[0].file, name);
    EXPECT_THAT(damages[0].message, HasSubstr("Permission denied"));
    std::filesystem::permissions(path, std::filesystem::perms(0644));
  }
}

TEST(DamageTest, ExchangedShardsAreFound) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  const std::string first = ReadFile(directory + "/" + kFiles[2]);
  WriteFile(directory + "/" + kFiles[2], ReadFile(directory + "/" + kFiles[3]));
  WriteFile(directory + "/" + kFiles[3], first);
  const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kQuick);
  for (const char* name : {kFiles[2], kFiles[3]}) {
    EXPECT_TRUE(std::ranges::any_of(damages, [&](const Damage& d) { return d.file == name; }));
  }
  EXPECT_FALSE(ReadAll(directory).has_value());
}

TEST(DamageTest, AShardOfAnotherStepIsFound) {
  const TemporaryFolder folder;
  const std::string first = WriteSmallCheckpoint(folder.path(), 100);
  const std::string second = WriteSmallCheckpoint(folder.path(), 200);
  // Same tensors, same sizes, same header: only the values differ.
  WriteFile(first + "/" + kFiles[2], ReadFile(second + "/" + kFiles[2]));
  EXPECT_TRUE(VerifyCheckpoint(first, VerifyLevel::kQuick).empty());
  const std::vector<Damage> damages = VerifyCheckpoint(first, VerifyLevel::kFull);
  ASSERT_EQ(damages.size(), 1U);
  EXPECT_EQ(damages[0].file, kFiles[2]);
  EXPECT_EQ(damages[0].tensor, "counter");
  EXPECT_FALSE(ReadAll(first).has_value());
}

TEST(DamageTest, SwappedFilesAreFound) {
  const TemporaryFolder folder;
  const std::string first = WriteSmallCheckpoint(folder.path(), 100);
  const std::string second = WriteSmallCheckpoint(folder.path(), 200);
  // The counter differs, so shard 0 of one step is not shard 0 of the other; COMMIT and the
  // manifest are sound files of another step.
  for (const char* name : {kFiles[0], kFiles[1], kFiles[2]}) {
    const std::string mine = ReadFile(first + "/" + name);
    WriteFile(first + "/" + name, ReadFile(second + "/" + name));
    EXPECT_FALSE(VerifyCheckpoint(first, VerifyLevel::kFull).empty()) << name;
    WriteFile(first + "/" + name, mine);
  }
  // All of another step's files: right by themselves, in the wrong folder.
  for (const char* name : kFiles) WriteFile(first + "/" + name, ReadFile(second + "/" + name));
  const std::vector<Damage> damages = VerifyCheckpoint(first, VerifyLevel::kQuick);
  ASSERT_EQ(damages.size(), 1U);
  EXPECT_THAT(damages[0].message, HasSubstr("is of iteration 200, the folder is step-00000100"));
}

TEST(DamageTest, ACopyElsewhereIsSound) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  std::filesystem::copy(directory, folder / "backup");
  EXPECT_TRUE(VerifyCheckpoint(folder / "backup", VerifyLevel::kFull).empty());
}

TEST(DamageTest, ShardIsComparedWithWhatItsWriterMeant) {
  const TemporaryFolder folder;
  const std::vector<float> values = Values(10, 0);
  ShardWriter writer(folder.path(), "s.safetensors");
  writer.Add({"t", "weight", "F32", {10}, {0}, {10}, std::as_bytes(std::span(values))});
  const ShardResult result = writer.Write();
  EXPECT_TRUE(VerifyShardFile(folder.path(), result).empty());
  std::string image = ReadFile(folder / "s.safetensors");
  image.back() ^= 1;
  WriteFile(folder / "s.safetensors", image);
  const std::vector<Damage> damages = VerifyShardFile(folder.path(), result);
  ASSERT_EQ(damages.size(), 1U);
  EXPECT_THAT(Describe(damages[0]), HasSubstr("s.safetensors: tensor \"t\" (weight), bytes ["));
}

}  // namespace
}  // namespace cairn
