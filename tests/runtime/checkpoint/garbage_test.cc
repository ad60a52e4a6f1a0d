#include "runtime/checkpoint/garbage.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Abort(const std::string& directory) {
  fs::remove(directory + "/COMMIT");
  return directory;
}

// A flipped bit that only a full verification finds.
std::string Rot(const std::string& directory) {
  const std::string path = directory + "/shard-00000.safetensors";
  std::string image = ReadFile(path);
  image.back() ^= 1;
  WriteFile(path, image);
  return directory;
}

std::vector<int64_t> Removed(const std::string& run, int64_t keep, int64_t keep_every) {
  std::vector<int64_t> removed;
  for (const GarbageVerdict& verdict : JudgeGarbage(run, keep, keep_every)) {
    EXPECT_NE(verdict.reason, "");
    if (verdict.remove) removed.push_back(verdict.checkpoint.iteration);
  }
  return removed;
}

TEST(GarbageTest, GoodCheckpointsGoOnlyWhenAskedAndNeverTheNewest) {
  const TemporaryFolder run;
  for (const int64_t iteration : {100, 200, 300, 400}) WriteSmallCheckpoint(run.path(), iteration);
  EXPECT_THAT(Removed(run.path(), 0, 0), ElementsAre());
  EXPECT_THAT(Removed(run.path(), 9, 0), ElementsAre());
  EXPECT_THAT(Removed(run.path(), 2, 0), ElementsAre(100, 200));
  EXPECT_THAT(Removed(run.path(), 1, 200), ElementsAre(100, 300));
  EXPECT_THAT(Removed(run.path(), 1, 1), ElementsAre());
}

TEST(GarbageTest, AbortedSavesGoUnlessTheyMayBeUnderWay) {
  const TemporaryFolder run;
  Abort(WriteSmallCheckpoint(run.path(), 100));
  EXPECT_THAT(Removed(run.path(), 1, 0), ElementsAre());
  WriteSmallCheckpoint(run.path(), 200);
  QuarantineCheckpoint(WriteSmallCheckpoint(run.path(), 150));
  Abort(WriteSmallCheckpoint(run.path(), 300));
  EXPECT_THAT(Removed(run.path(), 0, 0), ElementsAre(100));
  const std::vector<GarbageVerdict> verdicts = JudgeGarbage(run.path(), 0, 0);
  EXPECT_THAT(verdicts[0].reason, HasSubstr("older than step-00000200"));
  EXPECT_THAT(verdicts[1].reason, HasSubstr("damaged"));
  EXPECT_THAT(verdicts[3].reason, HasSubstr("may be a save under way"));
}

TEST(GarbageTest, OlderOnesStayWhereTheNewestIsRotten) {
  const TemporaryFolder run;
  WriteSmallCheckpoint(run.path(), 100);
  WriteSmallCheckpoint(run.path(), 200);
  Abort(WriteSmallCheckpoint(run.path(), 250));
  Rot(WriteSmallCheckpoint(run.path(), 300));
  EXPECT_THAT(Removed(run.path(), 1, 0), ElementsAre(100));
  const std::vector<GarbageVerdict> verdicts = JudgeGarbage(run.path(), 1, 0);
  EXPECT_EQ(verdicts[1].reason, "is the newest good checkpoint");
  EXPECT_EQ(verdicts[3].checkpoint.state, CheckpointState::kDamaged);
  EXPECT_THAT(verdicts[3].checkpoint.problem, HasSubstr("CRC32C"));
}

TEST(GarbageTest, LinksStay) {
  const TemporaryFolder run;
  const std::string elsewhere = WriteSmallCheckpoint(run / "other", 100);
  WriteSmallCheckpoint(run.path(), 200);
  fs::create_directory_symlink(elsewhere, run / "checkpoints/step-00000100");
  EXPECT_THAT(Removed(run.path(), 1, 0), ElementsAre());
}

}  // namespace
}  // namespace cairn
