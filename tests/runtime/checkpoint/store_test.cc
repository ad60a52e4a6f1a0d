#include "runtime/checkpoint/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What an attempt that died after its shards leaves.
std::string LeaveAttempt(const std::string& run_dir, int64_t iteration) {
  std::string directory = WriteSmallCheckpoint(run_dir, iteration);
  fs::remove(directory + "/COMMIT");
  return directory;
}

std::vector<int64_t> Iterations(const std::string& run_dir) {
  std::vector<int64_t> iterations;
  for (const CheckpointInfo& info : ListCheckpoints(run_dir)) iterations.push_back(info.iteration);
  return iterations;
}

void FlipLastByte(const std::string& path) {
  std::string image = ReadFile(path);
  image.back() ^= 1;
  WriteFile(path, image);
}

TEST(StoreTest, StepNames) {
  EXPECT_EQ(StepName(100), "step-00000100");
  EXPECT_EQ(StepName(1234567890), "step-1234567890");
  EXPECT_EQ(ParseStepName("step-00000100"), 100);
  EXPECT_EQ(ParseStepName("step-1234567890"), 1234567890);
  for (const char* name : {"step-100", "step-", "step-0000010x", "step--0000001", "step-+0000001",
                           "xstep-00000100", "step-99999999999999999999", "step-00000100 "}) {
    EXPECT_EQ(ParseStepName(name), std::nullopt) << name;
  }
}

TEST(StoreTest, CommitRecordIsReadToTheByte) {
  const CommitRecord record = {5, 1000, std::string(64, 'a')};
  const std::string text = record.Render();
  ASSERT_TRUE(CommitRecord::Parse(text).has_value());
  EXPECT_EQ(CommitRecord::Parse(text)->manifest_bytes, 1000U);
  EXPECT_FALSE(CommitRecord::Parse(text + "\n"));
  EXPECT_FALSE(CommitRecord::Parse(text.substr(0, text.size() - 1)));
  EXPECT_FALSE(CommitRecord::Parse(""));
  EXPECT_FALSE(CommitRecord::Parse((CommitRecord{-5, 1000, std::string(64, 'a')}).Render()));
  EXPECT_FALSE(CommitRecord::Parse((CommitRecord{5, 1000, std::string(64, 'g')}).Render()));
}

TEST(StoreTest, ListsWithStates) {
  const TemporaryFolder run;
  EXPECT_THAT(ListCheckpoints(run.path()), IsEmpty());
  WriteSmallCheckpoint(run.path(), 200);
  WriteSmallCheckpoint(run.path(), 100);
  LeaveAttempt(run.path(), 400);
  fs::remove(WriteSmallCheckpoint(run.path(), 300) + "/shard-00001.safetensors");
  fs::create_directory(run / "checkpoints/notes");
  const std::vector<CheckpointInfo> infos = ListCheckpoints(run.path());
  ASSERT_EQ(infos.size(), 4U);
  EXPECT_EQ(infos[0].iteration, 100);
  EXPECT_EQ(infos[0].state, CheckpointState::kCommitted);
  EXPECT_EQ(infos[0].problem, "");
  EXPECT_EQ(infos[0].files, 4U);
  EXPECT_GT(infos[0].bytes, 500U);
  EXPECT_GT(infos[0].unix_time, 1'500'000'000);
  EXPECT_EQ(infos[2].state, CheckpointState::kDamaged);
  EXPECT_THAT(infos[2].problem, HasSubstr("shard-00001.safetensors"));
  EXPECT_EQ(infos[3].state, CheckpointState::kAborted);
  EXPECT_THAT(infos[3].problem, HasSubstr("never finished"));
  EXPECT_EQ(ReadFile(run / "checkpoints/LATEST"), "step-00000300\n");
}

TEST(StoreTest, FindsTheNewestGood) {
  const TemporaryFolder run;
  EXPECT_EQ(FindNewestGood(run.path(), VerifyLevel::kFull), std::nullopt);
  const std::string good = WriteSmallCheckpoint(run.path(), 100);
  FlipLastByte(WriteSmallCheckpoint(run.path(), 200) + "/shard-00000.safetensors");
  FlipLastByte(WriteSmallCheckpoint(run.path(), 300) + "/MANIFEST.pb");
  LeaveAttempt(run.path(), 400);
  WriteFile(run / "checkpoints/LATEST", "step-00000400\n");

  std::vector<std::string> skipped;
  const auto on_skip = [&](const std::string& path, const std::string& reason) {
    skipped.push_back(fs::path(path).filename().string() + " " + reason);
  };
  EXPECT_EQ(FindNewestGood(run.path(), VerifyLevel::kFull, on_skip), good);
  EXPECT_THAT(skipped, ElementsAre(HasSubstr("step-00000400 COMMIT: is missing"),
                                   HasSubstr("step-00000300 MANIFEST.pb: bytes"),
                                   HasSubstr("step-00000200 shard-00000.safetensors: tensor")));
  // A flipped bit of data is beyond a quick look.
  EXPECT_EQ(FindNewestGood(run.path(), VerifyLevel::kQuick), StepDirectory(run.path(), 200));
}

TEST(StoreTest, ResolvesWhatAUserNames) {
  const TemporaryFolder run;
  EXPECT_THROW(ResolveCheckpoint(run / "none"), Error);
  EXPECT_THROW(ResolveCheckpoint(run.path()), Error);
  const std::string first = WriteSmallCheckpoint(run.path(), 100);
  const std::string second = WriteSmallCheckpoint(run.path(), 200);
  EXPECT_EQ(ResolveCheckpoint(run.path()), second);
  EXPECT_EQ(ResolveCheckpoint(run / "checkpoints"), second);
  EXPECT_EQ(ResolveCheckpoint(first), first);
  EXPECT_EQ(ResolveCheckpoint(first + "/"), first + "/");
  fs::rename(second, run / "renamed");
  EXPECT_EQ(ResolveCheckpoint(run / "renamed"), run / "renamed");
}

TEST(StoreTest, BeginReplacesAnAttemptButNeverACheckpoint) {
  const TemporaryFolder run;
  const std::string directory = LeaveAttempt(run.path(), 100);
  WriteFile(directory + "/shard-00007.safetensors.part", "half");
  EXPECT_EQ(BeginCheckpoint(run.path(), 100), directory);
  EXPECT_TRUE(fs::is_empty(directory));
  WriteSmallCheckpoint(run.path(), 100);
  EXPECT_THROW(BeginCheckpoint(run.path(), 100), Error);
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kFull).empty());
  // A checkpoint that was set aside is replaced.
  QuarantineCheckpoint(directory);
  EXPECT_EQ(ListCheckpoints(run.path())[0].state, CheckpointState::kDamaged);
  EXPECT_EQ(FindNewestGood(run.path(), VerifyLevel::kQuick), std::nullopt);
  QuarantineCheckpoint(directory);
  WriteSmallCheckpoint(run.path(), 100);
  EXPECT_EQ(ListCheckpoints(run.path())[0].state, CheckpointState::kCommitted);
}

TEST(StoreTest, CommitRefusesAManifestThatIsNotWhole) {
  const TemporaryFolder run;
  const std::string directory = BeginCheckpoint(run.path(), 5);
  Manifest manifest;
  manifest.iteration = 5;
  manifest.tensors = {{"w", "weight", "F32", {4}, {}}};
  EXPECT_THROW(CommitCheckpoint(directory, manifest), Error);
  EXPECT_TRUE(fs::is_empty(directory));
}

TEST(StoreTest, CommitStandsEvenIfItsHintFails) {
  const TemporaryFolder run;
  // A folder in the hint's place: the rename onto it fails.
  fs::create_directories(run / "checkpoints/LATEST");
  const std::string directory = WriteSmallCheckpoint(run.path(), 100);
  EXPECT_EQ(FindNewestGood(run.path(), VerifyLevel::kFull), directory);
}

TEST(StoreTest, AbortLeavesNothingAndNeverThrows) {
  const TemporaryFolder run;
  const std::string directory = LeaveAttempt(run.path(), 100);
  AbortCheckpoint(directory);
  EXPECT_FALSE(fs::exists(directory));
  AbortCheckpoint(directory);
  const std::string busy = LeaveAttempt(run.path(), 200);
  fs::create_directory(busy + "/folder");
  AbortCheckpoint(busy);
  EXPECT_TRUE(fs::exists(busy + "/folder"));
  const std::string good = WriteSmallCheckpoint(run.path(), 300);
  AbortCheckpoint(good);
  EXPECT_TRUE(VerifyCheckpoint(good, VerifyLevel::kFull).empty());
}

TEST(StoreTest, RetentionKeepsTheNewestAndTheProtected) {
  const TemporaryFolder run;
  for (const int64_t iteration : {100, 200, 300, 400, 500}) {
    WriteSmallCheckpoint(run.path(), iteration);
  }
  EXPECT_THAT(ApplyRetention(run.path(), {}), IsEmpty());
  EXPECT_THAT(ApplyRetention(run.path(), {.keep = 9}), IsEmpty());
  EXPECT_THAT(ApplyRetention(run.path(), {.keep = 2, .protect_iteration = 200}),
              ElementsAre(StepDirectory(run.path(), 300), StepDirectory(run.path(), 100)));
  EXPECT_THAT(Iterations(run.path()), ElementsAre(200, 400, 500));
  EXPECT_THAT(ApplyRetention(run.path(), {.keep = 1}),
              ElementsAre(StepDirectory(run.path(), 400), StepDirectory(run.path(), 200)));
  EXPECT_THAT(Iterations(run.path()), ElementsAre(500));
}

TEST(StoreTest, RetentionKeepsMultiples) {
  const TemporaryFolder run;
  for (const int64_t iteration : {0, 50, 100, 150, 200, 250, 300}) {
    WriteSmallCheckpoint(run.path(), iteration);
  }
  EXPECT_THAT(ApplyRetention(run.path(), {.keep = 1, .retain_interval = 100}),
              ElementsAre(StepDirectory(run.path(), 250), StepDirectory(run.path(), 150),
                          StepDirectory(run.path(), 50)));
  EXPECT_THAT(
      ApplyRetention(run.path(), {.keep = 1, .retain_interval = 200, .protect_iteration = 100}),
      IsEmpty());
  EXPECT_THAT(Iterations(run.path()), ElementsAre(0, 100, 200, 300));
}

TEST(StoreTest, RetentionClearsOldAttemptsOnly) {
  const TemporaryFolder run;
  LeaveAttempt(run.path(), 100);
  QuarantineCheckpoint(WriteSmallCheckpoint(run.path(), 150));
  WriteSmallCheckpoint(run.path(), 200);
  LeaveAttempt(run.path(), 300);
  EXPECT_THAT(ApplyRetention(run.path(), {}), ElementsAre(StepDirectory(run.path(), 100)));
  EXPECT_THAT(Iterations(run.path()), ElementsAre(150, 200, 300));
}

TEST(StoreTest, ARemovalThatFailsLeavesNoCheckpoint) {
  const TemporaryFolder run;
  const std::string directory = WriteSmallCheckpoint(run.path(), 100);
  fs::create_directory(directory + "/a_folder");
  EXPECT_THROW(RemoveCheckpoint(directory), Error);
  EXPECT_FALSE(fs::exists(directory + "/COMMIT"));
  EXPECT_NE(VerifyCheckpoint(directory, VerifyLevel::kQuick).size(), 0U);
}

}  // namespace
}  // namespace cairn
