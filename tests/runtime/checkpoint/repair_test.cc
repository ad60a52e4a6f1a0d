#include "runtime/checkpoint/repair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/store.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class RepairTest : public ::testing::Test {
 protected:
  RepairTest() {
    original_ = WriteSmallCheckpoint(folder_ / "run", 100);
    for (const char* copy : {"a", "b"}) fs::copy(original_, folder_ / copy);
  }

  std::string PathOf(const std::string& copy, const std::string& file) const {
    return folder_ / (copy + "/" + file);
  }

  void Flip(const std::string& copy, const std::string& file, uint64_t byte) const {
    std::string image = ReadFile(PathOf(copy, file));
    image.at(byte) ^= 16;
    WriteFile(PathOf(copy, file), image);
  }

  // Repairs "a" from "b" into "new".
  RepairReport Run() const {
    return RepairCheckpoint(folder_ / "a", folder_ / "b", folder_ / "new");
  }

  // Expects that "new" is the original, byte for byte, and that the copies were not touched.
  void ExpectWhole(const RepairReport& report) const {
    EXPECT_TRUE(report.lost.empty());
    for (const auto& entry : fs::directory_iterator(original_)) {
      const std::string name = entry.path().filename();
      EXPECT_EQ(ReadFile(PathOf("new", name)), ReadFile(entry.path())) << name;
    }
    EXPECT_TRUE(VerifyCheckpoint(folder_ / "new", VerifyLevel::kFull).empty());
  }

  const TemporaryFolder folder_;
  std::string original_;
};

constexpr const char* kShard = "shard-00000.safetensors";

TEST_F(RepairTest, AnUndamagedCheckpointIsCopied) {
  const RepairReport report = Run();
  ExpectWhole(report);
  EXPECT_EQ(report.iteration, 100);
  EXPECT_EQ(report.files, 2U);
  EXPECT_TRUE(report.replaced.empty());
}

// Every byte of every file in turn: whatever it was, the replica has it.
TEST_F(RepairTest, AnyByteComesFromTheReplica) {
  for (const auto& entry : fs::directory_iterator(original_)) {
    const std::string name = entry.path().filename();
    for (uint64_t byte = 0; byte < entry.file_size(); byte += 7) {
      Flip("a", name, byte);
      const RepairReport report = Run();
      ExpectWhole(report);
      ASSERT_EQ(report.replaced.size(), 1U) << name << ", byte " << byte;
      EXPECT_EQ(report.replaced[0].file, name);
      fs::remove_all(folder_ / "new");
      Flip("a", name, byte);
    }
  }
}

TEST_F(RepairTest, BothMayBeDamagedInDifferentPlaces) {
  const uint64_t size = fs::file_size(PathOf("a", kShard));
  Flip("a", kShard, size - 1);
  Flip("b", kShard, 12);
  fs::remove(PathOf("a", "COMMIT"));
  fs::remove(PathOf("b", "MANIFEST.pb"));
  fs::remove(PathOf("b", "shard-00001.safetensors"));
  const RepairReport report = Run();
  ExpectWhole(report);
  ASSERT_EQ(report.replaced.size(), 2U);
  EXPECT_EQ(report.replaced[0].file, "COMMIT");
  EXPECT_EQ(report.replaced[1].file, kShard);
  EXPECT_NE(report.replaced[1].tensor, "");
  EXPECT_EQ(report.replaced[1].byte_end, size);
}

TEST_F(RepairTest, QuarantinedAndTruncatedAndOverlong) {
  QuarantineCheckpoint(folder_ / "a");
  fs::resize_file(PathOf("a", kShard), fs::file_size(PathOf("a", kShard)) / 2);
  WriteFile(PathOf("a", "shard-00001.safetensors"),
            ReadFile(PathOf("a", "shard-00001.safetensors")) + "more");
  ExpectWhole(Run());
}

TEST_F(RepairTest, ABlockThatIsBadInBothIsNamed) {
  const uint64_t size = fs::file_size(PathOf("a", kShard));
  Flip("a", kShard, size - 1);
  Flip("b", kShard, size - 2);
  Flip("a", "shard-00001.safetensors", 9);
  fs::remove(PathOf("b", "shard-00001.safetensors"));
  const RepairReport report = Run();
  EXPECT_FALSE(fs::exists(folder_ / "new"));
  ASSERT_EQ(report.lost.size(), 2U);
  EXPECT_EQ(report.lost[0].file, kShard);
  EXPECT_EQ(report.lost[0].byte_end, size);
  EXPECT_NE(report.lost[0].tensor, "");
  EXPECT_THAT(report.lost[0].message, HasSubstr("bad in both copies: CRC32C differs"));
  EXPECT_EQ(report.lost[1].file, "shard-00001.safetensors");
  EXPECT_THAT(report.lost[1].message, HasSubstr("No such file"));
  fs::remove(PathOf("a", "MANIFEST.pb"));
  Flip("b", "MANIFEST.pb", 5);
  EXPECT_EQ(Run().lost.size(), 2U);
  EXPECT_EQ(Run().lost[0].file, "MANIFEST.pb");
  EXPECT_FALSE(fs::exists(folder_ / "new"));
}

TEST_F(RepairTest, WhatIsNoCopyIsRefused) {
  const std::string other = WriteSmallCheckpoint(folder_ / "other", 101);
  const auto problem = [&](const std::string& damaged, const std::string& replica) -> std::string {
    try {
      RepairCheckpoint(damaged, replica, folder_ / "new");
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(folder_ / "new"));
      return error.what();
    }
    return "repaired";
  };
  EXPECT_THAT(problem(folder_ / "a", other), HasSubstr("is no copy of"));
  EXPECT_THAT(problem(folder_ / "a", folder_ / "nowhere"), HasSubstr("is no folder"));
  EXPECT_THAT(problem(folder_ / "run", folder_ / "other"), HasSubstr("no sound COMMIT"));
  // One that cannot say what it is gives only blocks with the right digest; its counter differs.
  fs::remove(other + "/COMMIT");
  Flip("a", kShard, LoadManifest(original_).files[0].header_bytes);
  const RepairReport report = RepairCheckpoint(folder_ / "a", other, folder_ / "new");
  ASSERT_EQ(report.lost.size(), 1U);
  EXPECT_EQ(report.lost[0].tensor, "counter");
}

TEST_F(RepairTest, LargeTensorsAreRepairedBlockByBlock) {
  const std::vector<int64_t> shape = {3000, 1000};  // two whole blocks and a part
  const std::vector<float> values = Values(Elements(shape), 0);
  const std::string source = SaveTiled(folder_ / "large", values, shape, {{{0, 0}, shape}}, 1);
  const std::string copy = folder_ / "copy";
  fs::copy(source, copy);
  const uint64_t data = fs::file_size(source + "/" + kShard) - 12'000'000;
  const auto flip = [](const std::string& path, uint64_t byte) {
    std::string image = ReadFile(path);
    image.at(byte) ^= 1;
    WriteFile(path, image);
  };
  const std::string whole = ReadFile(source + "/" + kShard);
  flip(source + "/" + kShard, data + kCrcBlockBytes + 5);
  flip(copy + "/" + kShard, data + 5);
  flip(copy + "/" + kShard, data + 2 * kCrcBlockBytes + 5);
  const RepairReport report = RepairCheckpoint(source, copy, folder_ / "step-00000001");
  EXPECT_EQ(report.blocks, 4U);
  ASSERT_EQ(report.replaced.size(), 1U);
  EXPECT_EQ(report.replaced[0].byte_begin, data + kCrcBlockBytes);
  EXPECT_EQ(report.replaced[0].byte_end, data + 2 * kCrcBlockBytes);
  EXPECT_TRUE(ReadFile((folder_ / "step-00000001/") + kShard) == whole);
}

}  // namespace
}  // namespace cairn
