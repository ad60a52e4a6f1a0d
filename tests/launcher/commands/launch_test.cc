// `cairn launch` with programs in the place of SLURM's; tests/launcher/slurm has the real ones.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kSubmit =
    "cairn launch slurm tiny.textproto --nodes 1 --ntasks-per-node 2 --time 01:00:00 --submit ";

class LaunchSlurmTest : public ::testing::Test {
 protected:
  LaunchSlurmTest() {
    // Each notes its words in "calls", says what FILE.says has, and ends with the status it has.
    for (const char* program : {"sbatch", "squeue", "scancel"}) {
      Write(fmt::format("bin/{}", program),
            fmt::format("#!/bin/sh\nprintf '%s|' {0} \"$@\" >>calls; echo >>calls\n"
                        "cat {0}.says 2>/dev/null; cat {0}.complains >&2 2>/dev/null\n"
                        "exit $(cat {0}.status 2>/dev/null || echo 0)\n",
                        program));
    }
    Write("sbatch.says", "42\n");
    workspace_.RunWell("chmod +x bin/*");
  }

  void Write(const std::string& name, const std::string& text) const {
    const std::string path = workspace_ / name;
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

  Outcome Run(const std::string& script) const {
    return workspace_.Run("PATH=$PWD/bin:$PATH; export PATH\n" + script);
  }

  std::string RunWell(const std::string& script) const {
    const Outcome outcome = Run(script);
    EXPECT_EQ(outcome.status, 0) << script << "\n" << outcome.err;
    return outcome.out;
  }

  void ExpectRefused(const std::string& script, int status, const char* says) const {
    const Outcome outcome = Run(script);
    EXPECT_EQ(outcome.status, status) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(says));
    EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    ExpectNoCrash(outcome);
  }

  const Workspace workspace_;
};

TEST_F(LaunchSlurmTest, AJobThatFailsQueuesAgainWhileThatHelps) {
  Write("bin/srun",
        "#!/bin/sh\ncase $* in *--mpi=list*) echo pmix ;; *) exit $(cat srun.status) ;; esac\n");
  Write("bin/scontrol", "#!/bin/sh\necho \"$@\" >>requeued\n");
  workspace_.RunWell("chmod +x bin/*");
  RunWell(kSubmit);
  int requeued = 0;
  const auto live = [&](int status, bool again) {
    Write("srun.status", std::to_string(status));
    const Outcome outcome = Run("SLURM_JOB_ID=42 SLURM_NNODES=1 bash run/slurm/job.sbatch");
    EXPECT_EQ(outcome.status, status) << outcome.out << outcome.err;
    requeued += again ? 1 : 0;
    std::string expected;
    for (int i = 0; i < requeued; ++i) expected += "requeue 42\n";
    EXPECT_EQ(ReadText(workspace_ / "requeued"), expected) << outcome.out << outcome.err;
    return outcome.out + outcome.err;
  };
  live(3, true);
  live(137, true);
  live(4, true);  // saved: what failed before no longer counts
  live(3, true);
  live(3, true);
  // A new checkpoint, too, is progress; one that went is none.
  fs::create_directories(workspace_ / "run/checkpoints/step-00000007");
  Write("bin/srun",
        "#!/bin/sh\ncase $* in *--mpi=list*) echo pmix ;; *) : "
        ">run/checkpoints/step-00000007/COMMIT; exit 3 ;; esac\n");
  live(3, true);
  Write("bin/srun",
        "#!/bin/sh\ncase $* in *--mpi=list*) echo pmix ;; *) rm -f run/checkpoints/step-*/COMMIT; "
        "exit $(cat srun.status) ;; esac\n");
  live(1, true);
  live(3, true);
  EXPECT_THAT(live(3, false), HasSubstr("given up after 3 lives without a new checkpoint"));
  for (const int final_status : {0, 2}) live(final_status, false);
  // A job that is written anew starts to count anew.
  live(3, true);
  live(3, true);
  RunWell("rm run/slurm/job; " + std::string(kSubmit));
  live(3, true);
}

TEST_F(LaunchSlurmTest, SubmitsAsksCancelsAndPrints) {
  EXPECT_EQ(RunWell(kSubmit), "42\n");
  EXPECT_EQ(ReadText(workspace_ / "calls"), "sbatch|--parsable|run/slurm/job.sbatch|\n");
  EXPECT_THAT(ReadText(workspace_ / "run/slurm/config.textproto"), HasSubstr("vocab_size: 257"));

  Write("squeue.says", "42|RUNNING|0:08|1:00:00|n[1-2]\n");
  const std::string text = RunWell("rm calls; cairn launch status run");
  EXPECT_THAT(text, HasSubstr("job 42: RUNNING n[1-2], 0:08 of 1:00:00\n"));
  EXPECT_THAT(text, HasSubstr("/run: no checkpoint yet\n"));
  EXPECT_EQ(ReadText(workspace_ / "calls"),
            "squeue|--jobs=42|--states=all|--noheader|--format=%i|%T|%M|%l|%R|\n");
  const Json json = Json::parse(RunWell("cairn launch status run --json"));
  EXPECT_EQ(json["job"], "42");
  EXPECT_EQ(json["tasks"][0]["state"], "RUNNING");
  EXPECT_EQ(json["runs"][0]["checkpoint_iteration"], 0);

  ExpectRefused("cairn launch logs run", 3, "run/slurm/42.log: is not there: job 42 has not begun");
  Write("run/slurm/42.log", "one\ntwo\n");
  EXPECT_EQ(RunWell("cairn launch logs run"), "one\ntwo\n");
  ExpectRefused("cairn launch logs run --task 1", 2, "job 42 has tasks 0 to 0");

  ExpectRefused(kSubmit, 2, "run: its job 42 is RUNNING; end it first (cairn launch cancel run)");
  RunWell("rm calls; cairn launch cancel run");
  EXPECT_EQ(ReadText(workspace_ / "calls"), "scancel|42|\n");
  Write("squeue.says", "42|CANCELLED|0:08|1:00:00|n[1-2]\n");
  EXPECT_EQ(RunWell(kSubmit), "42\n");

  Write("squeue.says", "");
  Write("squeue.status", "1");
  Write("squeue.complains", "slurm_load_jobs error: Invalid job id specified\n");
  EXPECT_THAT(RunWell("cairn launch status run"),
              HasSubstr("job 42: it has ended, and SLURM no longer knows it"));
}

TEST_F(LaunchSlurmTest, FollowsALog) {
  RunWell(kSubmit);
  Write("run/slurm/42.log", "first\n");
  Child follower(workspace_.path(), "exec cairn launch logs run --follow >followed 2>/dev/null");
  ASSERT_TRUE(WaitUntil([&] { return ReadText(workspace_ / "followed") == "first\n"; }));
  Write("run/slurm/42.log", "first\nsecond\n");
  EXPECT_TRUE(WaitUntil(
      [&] { return ReadText(workspace_ / "followed").find("second\n") != std::string::npos; }));
}

TEST_F(LaunchSlurmTest, WritesWithoutSubmitting) {
  const Outcome outcome =
      Run("cairn launch slurm tiny.textproto lr=0.5 --nodes 2 --ntasks-per-node 2 --time 00:10:00 "
          "run_dir='new run/it'\\''s'");
  EXPECT_EQ(outcome.out, "new run/it's/slurm/job.sbatch\n") << outcome.err;
  EXPECT_FALSE(fs::exists(workspace_ / "calls"));
  EXPECT_FALSE(fs::exists(workspace_ / "new run/it's/slurm/job"));
  const std::string script = ReadText(workspace_ / "new run/it's/slurm/job.sbatch");
  EXPECT_THAT(script, HasSubstr("#SBATCH --job-name=it_s\n"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --output='new run/it'\\''s/slurm/%A.log'\n"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --signal=B:USR1@150\n"));
  EXPECT_THAT(script, HasSubstr("\nrun='new run/it'\\''s'\n"));
  EXPECT_THAT(ReadText(workspace_ / "new run/it's/slurm/config.textproto"), HasSubstr("lr: 0.5"));
}

TEST_F(LaunchSlurmTest, AnArrayHasARunForEachSeed) {
  RunWell(
      "cairn launch slurm tiny.textproto seed=7 --array 2 --nodes 1 --ntasks-per-node 1 "
      "--time 00:10:00 --output 'logs/%A-%a' --submit");
  for (const int task : {0, 1}) {
    const std::string config =
        ReadText(workspace_ / fmt::format("run/run-{}/slurm/config.textproto", task));
    EXPECT_THAT(config, HasSubstr(fmt::format("run_dir: \"run/run-{}\"", task)));
    EXPECT_THAT(config, HasSubstr(fmt::format("seed: {}\n", 7 + task)));
  }
  EXPECT_TRUE(fs::is_directory(workspace_ / "logs"));
  Write("logs/42-1", "second\n");
  EXPECT_EQ(RunWell("cairn launch logs run --task 1"), "second\n");
}

TEST_F(LaunchSlurmTest, NothingIsWrittenForWhatCannotTrain) {
  const std::string launch = "cairn launch slurm tiny.textproto --nodes 1 --time 00:10:00 ";
  ExpectRefused(launch + "--ntasks-per-node 3 --tensor-model-parallel-size 2", 2,
                "world size 3 is not a multiple");
  ExpectRefused(launch + "--ntasks-per-node 2 hiden_size=3", 2, "did you mean `hidden_size`?");
  ExpectRefused(launch + "--ntasks-per-node 2 run_dir=", 2, "run_dir=: is not set");
  ExpectRefused(launch, 2, "--gpus-per-node or --ntasks-per-node is required");
  ExpectRefused(launch + "--ntasks-per-node 2 --signal-seconds 600", 2,
                "seconds that fit: 1 to 599");
  ExpectRefused("cairn launch slurm - --nodes 1 --ntasks-per-node 1 --time 00:10:00", 2,
                "write the config to a file that every host can read");
  EXPECT_FALSE(fs::exists(workspace_ / "run"));
  EXPECT_FALSE(fs::exists(workspace_ / "calls"));
}

TEST_F(LaunchSlurmTest, WhatSlurmRefusesIsTold) {
  Write("sbatch.says", "");
  Write("sbatch.status", "1");
  Write("sbatch.complains", "sbatch: error: invalid partition\n  specified: night\n");
  ExpectRefused(kSubmit, 3,
                "sbatch: ended with status 1: sbatch: error: invalid partition specified: night");
  ExpectRefused("cairn launch status run", 2, "run: no job was submitted from here");
  Write("sbatch.status", "0");
  Write("sbatch.says", "--all\n");
  ExpectRefused(kSubmit, 3, "sbatch: ended with status 0");
  ExpectRefused(
      "rm bin/sbatch; PATH=$PWD/bin:$(dirname $(command -v cairn))\n" + std::string(kSubmit), 3,
      "sbatch: cannot be started: No such file or directory (is it installed");
}

TEST_F(LaunchSlurmTest, ADamagedMemoryIsRefused) {
  for (const char* text :
       {"", "42\n", "{\"job\": \"--all\", \"log\": \"a\", \"run_dirs\": [\"b\"]}",
        "{\"job\": 42, \"log\": \"a\", \"run_dirs\": [\"b\"]}",
        "{\"job\": \"42\", \"log\": \"a\", \"run_dirs\": []}"}) {
    Write("run/slurm/job", text);
    for (const char* command : {"status", "cancel", "logs"}) {
      ExpectRefused(fmt::format("cairn launch {} run", command), 3,
                    "run/slurm/job: is not what `cairn launch slurm --submit` wrote");
    }
  }
  EXPECT_FALSE(fs::exists(workspace_ / "calls"));
}

TEST(LaunchMpirunTest, PrintsWhatItRuns) {
  const Workspace workspace;
  const std::string launch =
      "cairn launch mpirun tiny.textproto -n 2 log_interval=4 --pipeline-model-parallel-size 2 ";
  const std::string command = workspace.RunWell(launch);
  EXPECT_THAT(command, HasSubstr("mpirun "));
  EXPECT_THAT(command, HasSubstr(" -n 2 --oversubscribe --map-by slot --bind-to none "));
  EXPECT_THAT(command,
              HasSubstr(" train tiny.textproto log_interval=4 --pipeline-model-parallel-size 2\n"));
  EXPECT_FALSE(fs::exists(workspace / "run"));
  const Outcome outcome = workspace.Run(launch + "--run");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::StartsWith(command));
  EXPECT_THAT(outcome.err, HasSubstr("\nranks 0-1 on "));
  EXPECT_EQ(ReadMetrics(workspace / "run").size(), 1);
  workspace.RunWell("rm -r run; " + command);
  EXPECT_EQ(ReadMetrics(workspace / "run").size(), 1);
}

TEST(LaunchMpirunTest, FillsTheHosts) {
  const Workspace workspace;
  const std::string command = workspace.RunWell(
      "OMP_NUM_THREADS=3 CAIRN_CONFIG_DIR=. cairn launch mpirun --hosts a:2,b:2 tiny.textproto "
      "model.name='two words'");
  EXPECT_THAT(command, HasSubstr(" -n 4 --host a:2,b:2 --map-by slot "));
  EXPECT_THAT(command, HasSubstr(" -x CAIRN_CONFIG_DIR=. -x OMP_NUM_THREADS=3 "));
  EXPECT_THAT(command, HasSubstr(" 'model.name=two words'\n"));
  const Outcome more = workspace.Run("cairn launch mpirun --hosts a:1,b:1 -n 4 tiny.textproto");
  EXPECT_THAT(more.out, HasSubstr(" -n 4 --host a:1,b:1 --oversubscribe "));
  EXPECT_THAT(more.err, HasSubstr("4 ranks on hosts for 2: some will share cores and devices"));
}

}  // namespace
}  // namespace cairn::testing
