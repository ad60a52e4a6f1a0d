#include "launcher/launch/supervisor.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A run folder, and a folder of finished checkpoints that a script can put into it as training
// would.
class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("cairn-supervisor-{}-{}", getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    for (int64_t iteration = 1; iteration <= 9; ++iteration) {
      Manifest manifest;
      manifest.iteration = iteration;
      CommitCheckpoint(BeginCheckpoint(folder_ / "spare", iteration), manifest);
    }
    fs::create_directories(folder_ / "run/checkpoints");
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Supervises `script`, in which `save N` commits iteration N and $start is the number of the
  // start.
  int Run(const std::string& script, int max_restarts = 20) {
    const std::string prelude = fmt::format(
        "cd {}; echo x >> starts; start=$(wc -l < starts);"
        "save() {{ cp -r spare/checkpoints/step-0000000$1 run/checkpoints/; }};",
        folder_.string());
    RestartPolicy policy;
    policy.max_restarts = max_restarts;
    policy.first_backoff_seconds = 0.01;
    ::testing::internal::CaptureStderr();
    const int status = Supervise({"sh", "-c", prelude + script}, folder_ / "run", policy);
    said_ = ::testing::internal::GetCapturedStderr();
    return status;
  }

  int Starts() const {
    std::ifstream file(folder_ / "starts");
    return static_cast<int>(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
  }
  bool Has(const std::string& path) const { return fs::exists(folder_ / "run/checkpoints" / path); }

  fs::path folder_;
  std::string said_;
};

TEST_F(SupervisorTest, AFailureWithProgressIsStartedAgain) {
  EXPECT_EQ(Run("[ $start -gt 6 ] || { save $start; exit 3; }"), 0);
  EXPECT_EQ(Starts(), 7);
  EXPECT_THAT(said_, AllOf(HasSubstr("start 1 ended with status 3"),
                           HasSubstr("saved up to iteration 6"), Not(HasSubstr("given up"))));
}

TEST_F(SupervisorTest, StatusesThatAnotherStartWouldNotChangeAreFinal) {
  for (const int status : {0, 2, 4}) {
    fs::remove(folder_ / "starts");
    EXPECT_EQ(Run(fmt::format("exit {}", status)), status);
    EXPECT_EQ(Starts(), 1);
  }
}

TEST_F(SupervisorTest, MpirunThatLostAHostIsAFailure) {
  EXPECT_EQ(Run("[ $start -gt 1 ] || exit 1"), 0);
  EXPECT_EQ(Starts(), 2);
}

TEST_F(SupervisorTest, AKilledProcessIsAFailure) {
  EXPECT_EQ(Run("[ $start -gt 1 ] || kill -9 $$"), 0);
  EXPECT_THAT(said_, HasSubstr("status 137"));
}

TEST_F(SupervisorTest, GivesUpAfterThreeStartsWithoutProgress) {
  EXPECT_EQ(Run("[ $start -gt 1 ] || save 1; exit 3"), 3);
  EXPECT_EQ(Starts(), 4);
  EXPECT_THAT(said_, AllOf(HasSubstr("nothing new saved since iteration 1"),
                           HasSubstr("given up after 3 starts without progress")));
  EXPECT_TRUE(Has("step-00000001/COMMIT"));  // the only one: never set aside
}

TEST_F(SupervisorTest, NoMoreRestartsThanAllowed) {
  EXPECT_EQ(Run("save $start; exit 3", 2), 3);
  EXPECT_EQ(Starts(), 3);
  EXPECT_THAT(said_, HasSubstr("2 restarts were allowed"));
}

TEST_F(SupervisorTest, AnOlderCheckpointGetsPastABadOne) {
  EXPECT_EQ(Run("case $start in 1) save 1; save 2; exit 3;; esac;"
                "[ -e run/checkpoints/step-00000002/COMMIT ] && exit 3; save 3"),
            0);
  EXPECT_EQ(Starts(), 4);
  EXPECT_THAT(said_, HasSubstr("step-00000002 led to the same failure twice: set aside"));
  EXPECT_TRUE(Has("step-00000002/DAMAGED"));
  EXPECT_TRUE(Has("step-00000003/COMMIT"));
}

TEST_F(SupervisorTest, ACheckpointThatIsNotToBlameIsGivenBack) {
  EXPECT_EQ(Run("[ $start -gt 1 ] || { save 1; save 2; }; exit 3"), 3);
  EXPECT_EQ(Starts(), 4);
  EXPECT_THAT(said_, HasSubstr("step-00000002 is given back"));
  EXPECT_TRUE(Has("step-00000002/COMMIT"));
  EXPECT_FALSE(Has("step-00000002/DAMAGED"));
}

TEST_F(SupervisorTest, NothingOfAStartIsLeftWhenTheNextBegins) {
  // An orphan in a session of its own, which no kill of a group reaches.
  EXPECT_EQ(Run("if [ $start = 1 ]; then setsid sleep 1000 & echo $! > orphan; sleep 0.2; exit 3; "
                "fi; ! kill -0 $(cat orphan)"),
            0);
  EXPECT_EQ(Starts(), 2);
}

TEST_F(SupervisorTest, ASignalAsksForACleanEnd) {
  std::thread asker([] {
    // For the supervisor to take, not for this thread.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    kill(getpid(), SIGTERM);
  });
  EXPECT_EQ(Run("trap 'exit 4' USR1; sleep 20 & wait"), 4);
  asker.join();
  EXPECT_EQ(Starts(), 1);
}

}  // namespace
}  // namespace cairn
