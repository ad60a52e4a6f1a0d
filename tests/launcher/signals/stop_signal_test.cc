#include "launcher/stop_signal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

namespace cairn {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

void Send(int signal) { ASSERT_EQ(kill(getpid(), signal), 0); }

// Waits far longer than any signal takes, but not for ever.
bool BecomesRequested(const StopSignal& stop) {
  const auto deadline = steady_clock::now() + seconds(60);
  while (!stop.Requested() && steady_clock::now() < deadline) std::this_thread::yield();
  return stop.Requested();
}

class StopSignalTest : public ::testing::TestWithParam<int> {};

TEST_P(StopSignalTest, IsRemembered) {
  const StopSignal stop;
  EXPECT_FALSE(stop.Requested());
  Send(GetParam());
  EXPECT_TRUE(BecomesRequested(stop));
}

// A second SIGTERM, of an impatient scheduler, does not end the save that the first one asked for.
TEST_P(StopSignalTest, ASecondOneThatIsNoInterruptChangesNothing) {
  const StopSignal stop;
  Send(GetParam());
  EXPECT_TRUE(BecomesRequested(stop));
  Send(SIGTERM);
  Send(SIGUSR1);
  EXPECT_TRUE(stop.Requested());
}

INSTANTIATE_TEST_SUITE_P(Signals, StopSignalTest, ::testing::Values(SIGINT, SIGTERM, SIGUSR1));

TEST(StopSignalTest, OneOfARunThatEndedIsNoMatterOfTheNext) {
  { const StopSignal first; }
  {
    const StopSignal second;
    Send(SIGTERM);
  }
  const StopSignal third;
  EXPECT_FALSE(third.Requested());
}

// The training loop may be stuck in an iteration: nobody asks.
TEST(StopSignalDeathTest, ASecondInterruptEndsABusyProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StopSignal stop;
        Send(SIGINT);
        if (!BecomesRequested(stop)) _exit(1);
        Send(SIGINT);
        std::this_thread::sleep_for(seconds(60));
        _exit(0);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace cairn
