#include "runtime/checkpoint/fence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FenceTest : public ::testing::Test {
 protected:
  FenceTest() : run_dir_(folder_ / "run") {}

  static Manifest Empty(int64_t iteration) {
    Manifest manifest;
    manifest.iteration = iteration;
    return manifest;
  }
  // What a commit of `directory` under `guard` fails with; "" if it does not.
  static std::string Commit(const std::string& directory, const CommitGuard& guard) {
    try {
      CommitCheckpoint(directory, Empty(7), guard);
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }
  static bool IsCommitted(const std::string& directory) {
    return std::filesystem::exists(directory + "/COMMIT");
  }

  const TemporaryFolder folder_;
  const std::string run_dir_;
};

TEST_F(FenceTest, TheOwnerCommits) {
  const RunFence owner = RunFence::Take(run_dir_);
  const std::string directory = BeginCheckpoint(run_dir_, 7);
  EXPECT_EQ(Commit(directory, [&] { owner.Check(); }), "");
  EXPECT_TRUE(IsCommitted(directory));
}

TEST_F(FenceTest, WhoWasReplacedCommitsNothing) {
  const RunFence old = RunFence::Take(run_dir_);
  const std::string directory = BeginCheckpoint(run_dir_, 7);
  const RunFence owner = RunFence::Take(run_dir_);
  EXPECT_FALSE(std::filesystem::exists(directory));  // the attempt is gone
  BeginCheckpoint(run_dir_, 7);
  EXPECT_THAT(Commit(directory, [&] { old.Check(); }),
              HasSubstr("this run was taken over by process"));
  EXPECT_FALSE(IsCommitted(directory));
  owner.Check();
}

TEST_F(FenceTest, ReplacedRightBeforeTheLookAtTheOwner) {
  const RunFence old = RunFence::Take(run_dir_);
  const std::string directory = BeginCheckpoint(run_dir_, 7);
  EXPECT_THAT(Commit(directory,
                     [&] {
                       RunFence::Take(run_dir_);
                       old.Check();
                     }),
              HasSubstr("taken over"));
  EXPECT_FALSE(IsCommitted(directory));
}

TEST_F(FenceTest, ReplacedBetweenTheLookAndTheRename) {
  const RunFence old = RunFence::Take(run_dir_);
  const std::string directory = BeginCheckpoint(run_dir_, 7);
  bool first = true;
  EXPECT_THAT(Commit(directory,
                     [&] {
                       old.Check();
                       if (first) RunFence::Take(run_dir_);
                       first = false;
                     }),
              HasSubstr("rename"));
  EXPECT_FALSE(IsCommitted(directory));
}

TEST_F(FenceTest, TheNewOwnersCommitOfTheSameIterationStays) {
  const RunFence old = RunFence::Take(run_dir_);
  const std::string directory = BeginCheckpoint(run_dir_, 7);
  EXPECT_THAT(Commit(directory,
                     [&] {
                       old.Check();
                       const RunFence owner = RunFence::Take(run_dir_);
                       EXPECT_EQ(Commit(BeginCheckpoint(run_dir_, 7), [&] { owner.Check(); }), "");
                     }),
              HasSubstr("rename"));
  EXPECT_TRUE(IsCommitted(directory));
  EXPECT_THAT(VerifyCheckpoint(directory, VerifyLevel::kFull), IsEmpty());
}

TEST_F(FenceTest, CommittedAndDamagedCheckpointsStayWhenARunIsTaken) {
  WriteSmallCheckpoint(run_dir_, 1);
  QuarantineCheckpoint(WriteSmallCheckpoint(run_dir_, 2));
  BeginCheckpoint(run_dir_, 3);
  EXPECT_THAT(ListAttempts(run_dir_), SizeIs(1));
  RunFence::Take(run_dir_);
  EXPECT_THAT(ListAttempts(run_dir_), IsEmpty());
  EXPECT_THAT(ListCheckpoints(run_dir_), SizeIs(2));
}

}  // namespace
}  // namespace cairn
