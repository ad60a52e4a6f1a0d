// Ranks that die, hang or are slow, and what the launcher and the watchdog make of it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(HangTest, AStoppedRankIsNamedAndAllEnd) {
  const Workspace workspace;
  Child run(workspace.path(), fmt::format("exec mpirun --oversubscribe -n 3 cairn train "
                                          "tiny.textproto run_dir=run global_batch_size=6 "
                                          "hang_timeout_seconds=2 "
                                          "{}",
                                          kEndless));
  ASSERT_TRUE(WaitUntil([&] { return ReadMetrics(workspace / "run").size() >= 5; }));
  const std::vector<pid_t> ranks = run.Programs();
  ASSERT_THAT(ranks, SizeIs(3));
  kill(ranks[1], SIGSTOP);
  const Outcome outcome = run.Wait();
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("the run has stalled: rank "), HasSubstr("never reached "),
                    HasSubstr("it does not answer: it is stopped")));
  for (const pid_t rank : ranks) EXPECT_TRUE(WaitUntil([&] { return !IsAlive(rank); })) << rank;

  const Json told = Json::parse(workspace.RunWell("cairn launch explain run --json"));
  EXPECT_EQ(told["suspects"], Json::array({1}));
  EXPECT_EQ(told["ranks"].size(), 3U);
  EXPECT_FALSE(told["ranks"][1]["answered"]);
  EXPECT_TRUE(told["ranks"][0]["answered"]);
  EXPECT_THAT(workspace.RunWell("cairn launch explain run"), HasSubstr("did not answer"));
}

TEST(HangTest, ARunThatNeverStalledHasNothingToExplain) {
  const Workspace workspace;
  workspace.RunWell("cairn train tiny.textproto run_dir=run");
  const Outcome outcome = workspace.Run("cairn launch explain run");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, HasSubstr("no start of this run has stalled"));
}

TEST(SuperviseTest, AKilledRankIsReplacedAndTheCurveIsTheSame) {
  const Workspace workspace;
  constexpr const char* kRun =
      "train_iters=40 lr_decay_style=constant log_interval=1 tensorboard=false save_interval=5 "
      "deterministic=true";
  workspace.RunWell(
      fmt::format("mpirun --oversubscribe -n 2 cairn train tiny.textproto run_dir=whole {}", kRun));
  Child run(workspace.path(),
            fmt::format("exec cairn launch mpirun -n 2 tiny.textproto run_dir=run "
                        "{} --run --max-restarts 5",
                        kRun));
  ASSERT_TRUE(WaitUntil([&] { return HasCommit(workspace, 5); }));
  for (const pid_t rank : run.Programs()) {
    // The supervisor is a `cairn`, too: its command line says launch.
    std::ifstream words(fmt::format("/proc/{}/cmdline", rank));
    const std::string text((std::istreambuf_iterator<char>(words)), {});
    if (text.find("train") == std::string::npos || text.find("launch") != std::string::npos)
      continue;
    kill(rank, SIGKILL);
    break;
  }
  const Outcome outcome = run.Wait(std::chrono::seconds(120));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::vector<Json> whole = ReadMetrics(workspace / "whole");
  const std::vector<Json> survived = ReadMetrics(workspace / "run");
  ASSERT_EQ(whole.size(), 40U);
  ASSERT_EQ(survived.size(), 40U) << outcome.err;
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(survived[i]["iteration"], whole[i]["iteration"]);
    EXPECT_EQ(survived[i]["lm_loss"], whole[i]["lm_loss"]) << i;
    EXPECT_EQ(survived[i]["grad_norm"], whole[i]["grad_norm"]) << i;
  }
}

TEST(SuperviseTest, ACrashLoopIsGivenUp) {
  const Workspace workspace;
  workspace.RunWell("printf '\\377\\377' | dd of=corpus.bin bs=2 seek=2001 conv=notrunc");
  const Outcome outcome =
      workspace.Run(fmt::format("cairn launch mpirun -n 2 tiny.textproto run_dir=run {} --run "
                                "--max-restarts 50",
                                kEndless));
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("given up after 3 starts without progress"));
  EXPECT_EQ(CountErrors(outcome.err), 3) << outcome.err;
}

}  // namespace
}  // namespace cairn::testing
