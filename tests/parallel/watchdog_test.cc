#include "parallel/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "parallel/flight_files.h"
#include "parallel/local_communicator.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

class WatchdogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    run_dir_ = fs::temp_directory_path() /
               fmt::format("cairn-watchdog-{}-{}", getpid(),
                           ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(run_dir_);
  }
  void TearDown() override { fs::remove_all(run_dir_); }

  // Ranks that each have a watchdog run `body`; what the world ended with, "" if well.
  std::string Run(int size, const std::function<void(Communicator&)>& body) {
    const std::string directory =
        BeginFlight(run_dir_, std::vector<std::string>(size, "somewhere"));
    try {
      RunLocalRanks(size, [&](Communicator& world) {
        Watchdog watchdog(world, {.directory = directory,
                                  .least_seconds = 0.4,
                                  .first_step_seconds = 0.4,
                                  .grace_seconds = 1});
        body(world);
      });
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
      return error.what();
    }
    return "";
  }

  std::string run_dir_;
};

TEST_F(WatchdogTest, NamesTheRankThatNeverComes) {
  const std::string failure = Run(3, [](Communicator& world) {
    const auto dp = world.Split(world.rank() % 2, 0, "dp");
    world.Barrier();
    world.recorder()->SetIteration(5);
    if (world.rank() == 1) {
      while (true) {  // until another rank ends the world
        std::this_thread::sleep_for(milliseconds(50));
        dp->Barrier();
      }
    }
    world.Barrier();
  });
  EXPECT_THAT(failure, AllOf(HasSubstr("the run has stalled: rank 1 (somewhere) never reached "
                                       "AllGatherBytes #2 of world [0,1,2] (iteration 5)"),
                             HasSubstr("it computes, or hangs, since its last operation")));
  const auto stall = NewestStall(run_dir_);
  ASSERT_TRUE(stall.has_value());
  EXPECT_THAT(ReadWholeFile(JoinPath(*stall, "VERDICT"), 1 << 20), HasSubstr("rank 1"));
  // What is left on the disk says the same again.
  EXPECT_THAT(ExplainStall(ReadEvidence(*stall)).text, HasSubstr("rank 1 (somewhere)"));
}

TEST_F(WatchdogTest, SlowRanksAndManyOperationsAreNoStall) {
  EXPECT_EQ(Run(2,
                [](Communicator& world) {
                  for (int i = 0; i < 10; ++i) {
                    if (world.rank() == i % 2) std::this_thread::sleep_for(milliseconds(100));
                    world.Barrier();
                  }
                }),
            "");
  EXPECT_EQ(NewestStall(run_dir_), std::nullopt);
}

TEST_F(WatchdogTest, WaitsForADiskMayTakeLonger) {
  EXPECT_EQ(Run(2,
                [](Communicator& world) {
                  const auto disk = world.Split(0, world.rank(), "checkpoint");
                  if (world.rank() == 0) std::this_thread::sleep_for(milliseconds(1200));
                  disk->Barrier();
                }),
            "");
}

TEST_F(WatchdogTest, ARankThatIsGoneIsMissedInASave) {
  const std::string directory = BeginFlight(run_dir_, {"a", "b", "c"});
  std::string failure;
  try {
    RunLocalRanks(3, [&](Communicator& world) {
      const auto disk = world.Split(0, world.rank(), "checkpoint");
      const auto alone = world.Split(world.rank(), 0, "dp");
      // A process that is stopped has no thread that answers.
      std::optional<Watchdog> watchdog;
      if (world.rank() != 2) {
        watchdog.emplace(world, Watchdog::Options{.directory = directory,
                                                  .least_seconds = 0.8,
                                                  .first_step_seconds = 0.8,
                                                  .grace_seconds = 0.3});
      }
      while (world.rank() == 2) {  // until another rank ends the world
        std::this_thread::sleep_for(milliseconds(50));
        alone->Barrier();
      }
      disk->Barrier();
    });
  } catch (const Error& error) {
    failure = error.what();
  }
  EXPECT_THAT(failure, HasSubstr("rank 2 (c)"));
}

TEST_F(WatchdogTest, TheDeadlineFollowsTheSteps) {
  const std::string directory = BeginFlight(run_dir_, {"a", "b"});
  RunLocalRanks(2, [&](Communicator& world) {
    Watchdog watchdog(world, {.directory = directory,
                              .least_seconds = 0.2,
                              .first_step_seconds = 0.2,
                              .grace_seconds = 1});
    watchdog.StepDone(1);
    if (world.rank() == 0) std::this_thread::sleep_for(milliseconds(1000));
    world.Barrier();
  });
  EXPECT_FALSE(StallDeclared(directory));
}

TEST_F(WatchdogTest, TheFirstStepEndsThePatienceBeforeIt) {
  const std::string directory = BeginFlight(run_dir_, {"a", "b"});
  EXPECT_THROW(RunLocalRanks(2,
                             [&](Communicator& world) {
                               Watchdog watchdog(world, {.directory = directory,
                                                         .least_seconds = 0.2,
                                                         .first_step_seconds = 1000,
                                                         .grace_seconds = 0.5});
                               watchdog.StepDone(0.01);
                               if (world.rank() == 0) {
                                 std::this_thread::sleep_for(milliseconds(2500));
                               }
                               world.Barrier();
                             }),
               Error);
  EXPECT_TRUE(StallDeclared(directory));
}

TEST_F(WatchdogTest, StartsAreNumberedAndOldOnesGo) {
  std::string newest;
  for (int i = 0; i < 12; ++i) newest = BeginFlight(run_dir_, {"a"});
  EXPECT_THAT(newest, HasSubstr("flight/start-00011"));
  EXPECT_EQ(std::distance(fs::directory_iterator(run_dir_ + "/flight"), fs::directory_iterator()),
            8);
  EXPECT_EQ(NewestStall(run_dir_), std::nullopt);
  DeclareStall(newest);
  DeclareStall(newest);
  BeginFlight(run_dir_, {"a"});
  EXPECT_EQ(NewestStall(run_dir_), newest);
  EXPECT_TRUE(WriteVerdict(newest, {.suspects = {0}, .text = "it was rank 0"}));
  EXPECT_FALSE(WriteVerdict(newest, {.suspects = {1}, .text = "no, rank 1"}));
}

TEST_F(WatchdogTest, EvidenceThatIsDamagedIsRefused) {
  const std::string directory = BeginFlight(run_dir_, {"a", "b"});
  EXPECT_FALSE(ReadEvidence(directory).records[0].has_value());
  WriteFileAtomically(directory + "/rank-00001.json", FlightRecorder(0).Record().ToJson());
  EXPECT_THROW(ReadEvidence(directory), Error);
  WriteFileAtomically(directory + "/hosts.json", "{");
  EXPECT_THROW(ReadEvidence(directory), Error);
  EXPECT_THROW(ReadEvidence(run_dir_), Error);
}

}  // namespace
}  // namespace cairn
