#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

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
      for (const int mask : {1 << (at % 8), 0xff}) {
        std::string damaged = image;
        damaged[at] = static_cast<char>(damaged[at] ^ mask);
        WriteFile(path, damaged);
        const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kFull);
        ASSERT_TRUE(Locates(damages, name, at)) << name << " byte " << at << " mask " << mask;
      }
    }
    WriteFile(path, image);
  }
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kFull).empty());
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
    WriteFile(path, image + "x");
    EXPECT_FALSE(VerifyCheckpoint(directory, VerifyLevel::kQuick).empty()) << name << " grown";
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
