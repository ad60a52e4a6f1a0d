// What happens outside of a run must not cost more than the run itself: a committed checkpoint
// stays good, and training goes on from it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

// The iterations of the committed checkpoints of "run", ascending.
std::vector<int64_t> Committed(const Workspace& workspace) {
  std::vector<int64_t> iterations;
  for (const Json& entry : Json::parse(workspace.RunWell("cairn ckpt ls run --json"))) {
    if (entry["state"] == "committed") iterations.push_back(entry["iteration"]);
  }
  std::sort(iterations.begin(), iterations.end());
  return iterations;
}

void ExpectVerified(const Workspace& workspace) {
  const std::vector<int64_t> committed = Committed(workspace);
  EXPECT_FALSE(committed.empty());
  for (const int64_t iteration : committed) {
    workspace.RunWell(fmt::format("cairn ckpt verify run/checkpoints/step-{:08}", iteration));
  }
}

// Trains two iterations more by `launch`; metrics.jsonl then has every iteration once.
void ExpectResumes(const Workspace& workspace, const std::string& launch) {
  const int64_t newest = Committed(workspace).back();
  const Outcome outcome = workspace.Run(
      fmt::format("{} train run/config.textproto load=auto train_iters={}", launch, newest + 2));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(fmt::format("(iteration {})", newest)));
  std::vector<int64_t> iterations;
  for (const Json& line : ReadMetrics(workspace / "run")) iterations.push_back(line["iteration"]);
  std::vector<int64_t> all(newest + 2);
  for (int64_t i = 0; i < newest + 2; ++i) all[i] = i + 1;
  EXPECT_EQ(iterations, all);
  EXPECT_EQ(Committed(workspace).back(), newest + 2);
}

TEST(DamageTest, WhereAllCheckpointsAreDamagedNothingBeginsAnew) {
  const Workspace workspace;
  workspace.RunWell(
      "cairn train tiny.textproto save_interval=2;"
      "for step in run/checkpoints/step-*; do truncate -s -1 $step/shard-00000.safetensors; done");
  const Outcome resumed = workspace.Run("cairn train tiny.textproto load=auto");
  EXPECT_EQ(resumed.status, 3) << resumed.err;
  EXPECT_EQ(CountErrors(resumed.err), 1) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("holds no good checkpoint"));
  EXPECT_TRUE(HasCommit(workspace, 2));  // nothing was touched
  // Nor where they were set aside before.
  workspace.RunWell("for step in run/checkpoints/step-*; do mv $step/COMMIT $step/DAMAGED; done");
  EXPECT_EQ(workspace.Run("cairn train tiny.textproto load=auto").status, 3);
}

TEST(DamageTest, ResumeTakesTheCheckpointBeforeAndSaysSo) {
  const Workspace workspace;
  workspace.RunWell(
      "cairn train tiny.textproto save_interval=2;"
      "printf X | dd of=run/checkpoints/step-00000004/shard-00000.safetensors bs=1 seek=20000 "
      "conv=notrunc");
  const Outcome verify = workspace.Run("cairn ckpt verify run --json");
  EXPECT_EQ(verify.status, 1);
  const Json damages = Json::parse(verify.out)["damages"];
  ASSERT_EQ(damages.size(), 1);
  EXPECT_THAT(damages[0]["tensor"].get<std::string>(), HasSubstr("layers."));
  EXPECT_LE(damages[0]["byte_begin"], 20000);
  EXPECT_GT(damages[0]["byte_end"], 20000);

  const Outcome resumed = workspace.Run("cairn train tiny.textproto load=auto");
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("passing over run/checkpoints/step-00000004"));
  EXPECT_THAT(resumed.err, HasSubstr("tensor \"layers."));
  EXPECT_THAT(resumed.err, HasSubstr("resuming from run/checkpoints/step-00000002 (iteration 2)"));
  EXPECT_EQ(CountErrors(resumed.err), 0);
  ExpectNoCrash(resumed);
  ExpectVerified(workspace);
}

TEST(NoSpaceTest, ShardsLargerThanAFileMayBe) {
  const Workspace workspace;
  EXPECT_EQ(workspace.Run("cairn train tiny.textproto exit_interval=2").status, 4);
  const Outcome outcome = workspace.Run(
      "ulimit -f 200; cairn train tiny.textproto load=auto save_interval=3");  // 100 KiB
  EXPECT_EQ(outcome.status, 3);
  EXPECT_THAT(outcome.err, HasSubstr("checkpoint of iteration 3 not saved, training goes on"));
  EXPECT_THAT(outcome.err, HasSubstr("iter     4/4"));
  EXPECT_THAT(outcome.err, HasSubstr("cairn: io error: run/checkpoints/step-00000004"));
  EXPECT_THAT(outcome.err, HasSubstr("File too large"));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  ExpectNoCrash(outcome);
  EXPECT_EQ(Committed(workspace), std::vector<int64_t>{2});
  ExpectVerified(workspace);
  ExpectResumes(workspace, "cairn");
}

TEST(NoSpaceTest, FullDisk) {
  const Workspace workspace;
  // A file system of its own, which only this process sees: one checkpoint fits, two do not.
  const std::string alone = "unshare --map-root-user --mount ";
  if (workspace.Run(alone + "mount -t tmpfs tmpfs /mnt").status != 0) {
    GTEST_SKIP() << "no private mounts here";
  }
  const Outcome outcome = workspace.Run(
      alone +
      "sh -ec 'mkdir run; mount -t tmpfs -o size=700k tmpfs run; "
      "mpirun -n 2 cairn train tiny.textproto save_interval=2 && status=0 || status=$?; "
      "cairn ckpt verify run --json; cairn ckpt ls run --json > ls.json; exit $status'");
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("checkpoint of iteration 4 not saved, training goes on"));
  EXPECT_THAT(outcome.err, HasSubstr("No space left on device"));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  ExpectNoCrash(outcome);
  EXPECT_EQ(Json::parse(outcome.out)["ok"], true);
  const Json left = Json::parse(ReadText(workspace / "ls.json"));
  ASSERT_EQ(left.size(), 1) << left;
  EXPECT_EQ(left[0]["iteration"], 2);
}

TEST(SharedStorageTest, ARankThatSeesAnotherRunDirIsNamedAtTheStart) {
  const Workspace workspace;
  const std::string alone = "unshare --map-root-user --mount ";
  if (workspace.Run(alone + "mount -t tmpfs tmpfs /mnt").status != 0) {
    GTEST_SKIP() << "no private mounts here";
  }
  const Outcome outcome =
      workspace.Run("mkdir run; mpirun -n 1 cairn train tiny.textproto : -n 1 " + alone +
                    "sh -ec 'mount -t tmpfs tmpfs run; exec cairn train tiny.textproto'");
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("cairn: config error: run_dir: rank 1 on "));
  EXPECT_THAT(outcome.err, HasSubstr("does not see in run what rank 0 on "));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  ExpectNoCrash(outcome);
  EXPECT_TRUE(fs::is_empty(workspace / "run"));
}

TEST(NoSpaceTest, LinesOfMetrics) {
  const Workspace workspace;
  // The lines on standard error go through a pipe, which has no such limit.
  const Outcome outcome = workspace.Run(
      "(ulimit -f 8; cairn train tiny.textproto train_iters=40 save_at_end=false; touch done) "
      "2>&1 | cat >&2; test -e done");
  const std::string note = "metrics not written, training goes on: run/metrics.jsonl";
  const size_t found = outcome.err.find(note);
  EXPECT_NE(found, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find(note, found + 1), std::string::npos) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("Finished all 40 iterations"));
  EXPECT_GT(ReadMetrics(workspace / "run").size(), 1);  // all of them whole lines
}

struct StopCase {
  const char* name;
  const char* launch;
  int signal;
  bool one_rank;  ///< sent to one rank, not to what was started
};

class StopTest : public ::testing::TestWithParam<StopCase> {};

TEST_P(StopTest, SavesAndLeavesWithStatus4) {
  const StopCase& stop = GetParam();
  const Workspace workspace;
  Child child(workspace.path(),
              fmt::format("exec {} train tiny.textproto {}", stop.launch, kEndless));
  ASSERT_TRUE(WaitUntil([&] { return ReadText(workspace / "run/metrics.jsonl").size() > 300; }));
  const std::vector<pid_t> programs = child.Programs();
  ASSERT_FALSE(programs.empty());
  ASSERT_EQ(kill(stop.one_rank ? programs.back() : child.pid(), stop.signal), 0);
  const Outcome outcome = child.Wait();
  EXPECT_EQ(outcome.status, 4) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("saved run/checkpoints/step-"));
  EXPECT_THAT(outcome.err, HasSubstr("Stopped after iteration"));
  EXPECT_THAT(outcome.err, HasSubstr("checkpoint.load=auto"));
  EXPECT_EQ(CountErrors(outcome.err), 0);
  ExpectNoCrash(outcome);
  EXPECT_EQ(Committed(workspace).size(), 1);
  ExpectVerified(workspace);
  ExpectResumes(workspace, stop.launch);
}

INSTANTIATE_TEST_SUITE_P(
    Signals, StopTest,
    ::testing::Values(StopCase{"Terminate", "cairn", SIGTERM, false},
                      StopCase{"Interrupt", "cairn", SIGINT, false},
                      StopCase{"User1ByMpirun", "mpirun -n 2 cairn", SIGUSR1, false},
                      StopCase{"TerminateOneRank", "mpirun -n 2 cairn", SIGTERM, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(KillTest, OneRankDiesAndAllEnd) {
  const Workspace workspace;
  Child child(workspace.path(), fmt::format("exec mpirun -n 3 cairn train tiny.textproto {} "
                                            "global_batch_size=3 save_interval=2 keep=2",
                                            kEndless));
  ASSERT_TRUE(WaitUntil([&] { return HasCommit(workspace, 4); }));
  const std::vector<pid_t> programs = child.Programs();
  ASSERT_EQ(programs.size(), 3);
  ASSERT_EQ(kill(programs.back(), SIGKILL), 0);
  const Outcome outcome = child.Wait(std::chrono::seconds(20));
  EXPECT_EQ(outcome.status, 128 + SIGKILL) << outcome.err;
  for (const pid_t pid : programs) EXPECT_TRUE(WaitUntil([&] { return !IsAlive(pid); })) << pid;
  EXPECT_THAT(outcome.err, HasSubstr("Killed"));
  ExpectNoCrash(outcome);
  EXPECT_GE(Committed(workspace).back(), 4);
  ExpectVerified(workspace);
  ExpectResumes(workspace, "mpirun -n 3 cairn");
}

TEST(ThrowTest, AnErrorThatAllRanksMeetIsReportedOnce) {
  const Workspace workspace;
  workspace.RunWell("printf '\\377\\377' | dd of=corpus.bin bs=2 seek=2001 conv=notrunc");
  const Outcome outcome = workspace.Run(
      fmt::format("exec mpirun -n 2 cairn train tiny.textproto run_dir=run {}", kEndless));
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("token 65535 is outside the vocabulary"));
}

TEST(ThrowTest, OneRankFailsMidRunAndAllEnd) {
  const Workspace workspace;
  // The second rank reads another copy of the corpus, where one token is damaged.
  workspace.RunWell(
      "mkdir other; cp corpus.idx corpus.bin other;"
      "printf '\\377\\377' | dd of=other/corpus.bin bs=2 seek=2001 conv=notrunc");
  const std::string rank = fmt::format(
      "cairn train \"$PWD\"/tiny.textproto run_dir=\"$PWD\"/run {} save_interval=1", kEndless);
  const Outcome outcome =
      workspace.Run(fmt::format("exec mpirun -n 1 {0} : -n 1 --wdir \"$PWD\"/other {0}", rank));
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("cairn: data error: rank 1: corpus.bin: byte 4002: document"));
  EXPECT_THAT(outcome.err, HasSubstr("token 65535 is outside the vocabulary"));
  ExpectNoCrash(outcome);
  EXPECT_GT(Committed(workspace).size(), 1);
  ExpectVerified(workspace);
}

}  // namespace
}  // namespace cairn::testing
