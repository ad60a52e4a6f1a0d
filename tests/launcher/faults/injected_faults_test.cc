// The program over real processes, with a library before the C library that kills a rank or fails a
// file operation of a save. tests/faults does the same to every operation, with ranks as threads.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "tests/faults/shim.h"
#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using faults::Action;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kRanks = 2;
constexpr int kIterations = 6;

struct Fault {
  Action action = Action::kNone;
  int rank = 0;
  int64_t index = 0;
  int error = 0;
};

std::string Train(const Fault& fault) {
  return fmt::format(
      "CAIRN_FAULT_ROOT=$PWD/run/checkpoints CAIRN_FAULT_REPORT=$PWD/report CAIRN_FAULT='{} {} {} "
      "{}' "
      "exec mpirun -n {} env LD_PRELOAD={} cairn train tiny.textproto train_iters={} "
      "global_batch_size=2 save_interval=2 keep=1 log_interval=1 tensorboard=false load=auto",
      fault.rank, fault.index, static_cast<int>(fault.action), fault.error, kRanks,
      CAIRN_FAULT_SHIM, kIterations);
}

// Iteration, loss and gradient norm, as they were written.
std::vector<std::string> Curve(const Workspace& workspace) {
  std::vector<std::string> curve;
  for (const Json& line : ReadMetrics(workspace / "run")) {
    curve.push_back(fmt::format("{} {} {}", line["iteration"].dump(), line["lm_loss"].dump(),
                                line["grad_norm"].dump()));
  }
  return curve;
}

// The shards of the last checkpoint.
std::vector<std::string> LastState(const Workspace& workspace) {
  std::vector<std::string> shards;
  for (int rank = 0; rank < kRanks; ++rank) {
    shards.push_back(ReadText(workspace / fmt::format("run/checkpoints/step-{:08}/"
                                                      "shard-{:05}.safetensors",
                                                      kIterations, rank)));
  }
  return shards;
}

// Processes that work in the folder.
std::vector<std::string> ProcessesIn(const Workspace& workspace) {
  std::vector<std::string> processes;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::error_code ignored;
    const fs::path folder = fs::read_symlink(entry.path() / "cwd", ignored);
    if (folder == fs::path(workspace.path())) processes.push_back(entry.path().filename());
  }
  return processes;
}

bool IsGood(const Workspace& workspace, int64_t iteration) {
  return workspace.Run(fmt::format("cairn ckpt verify run/checkpoints/step-{:08}", iteration))
             .status == 0;
}

// The run without a fault: what others must come to, and how many operations there are.
struct Reference {
  std::vector<std::string> curve;
  std::vector<std::string> state;
  std::vector<int64_t> operations;  // of each rank
};

const Reference& TheReference() {
  static const Reference reference = [] {
    const Workspace workspace;
    workspace.RunWell(Train({}));
    Reference made{Curve(workspace), LastState(workspace), {}};
    for (int rank = 0; rank < kRanks; ++rank) {
      std::istringstream report(ReadText(workspace / fmt::format("report-{}", rank)));
      std::string word;
      int64_t count = 0;
      report >> word >> count;
      made.operations.push_back(count);
    }
    return made;
  }();
  return reference;
}

// Without a fault, the run goes on to the same end.
void ExpectSameEnd(const Workspace& workspace) {
  const Outcome resumed = workspace.Run(Train({}));
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(Curve(workspace), TheReference().curve);
  EXPECT_EQ(LastState(workspace), TheReference().state);
  EXPECT_TRUE(IsGood(workspace, kIterations));
}

// Faults of `action` at `count` operations spread over those of `rank`.
std::vector<Fault> Spread(Action action, int rank, int count, int error = 0) {
  std::vector<Fault> spread;
  const int64_t operations = TheReference().operations[rank];
  for (int i = 0; i < count; ++i) {
    // Shifted by the action, for each to meet others.
    const int64_t index = (operations * (3 * i + static_cast<int>(action) % 3)) / (3 * count);
    spread.push_back({action, rank, std::min(index, operations - 1), error});
  }
  return spread;
}

TEST(ReferenceTest, IsWhole) {
  EXPECT_EQ(TheReference().curve.size(), kIterations);
  EXPECT_GT(TheReference().operations[0], 100);
  EXPECT_GT(TheReference().operations[1], 20);
}

class KilledRankTest : public ::testing::TestWithParam<int> {};

TEST_P(KilledRankTest, AllEndAndTheRunGoesOnToTheBit) {
  const int rank = GetParam();
  std::vector<Fault> kills;
  for (const Action action : {Action::kKillBefore, Action::kKillAfter, Action::kTear}) {
    for (const Fault& kill : Spread(action, rank, rank == 0 ? 5 : 3)) kills.push_back(kill);
  }
  for (const Fault& kill : kills) {
    SCOPED_TRACE(fmt::format("action {} at operation {} of rank {}", static_cast<int>(kill.action),
                             kill.index, kill.rank));
    const Workspace workspace;
    const Outcome outcome = workspace.Run(Train(kill));
    EXPECT_EQ(outcome.status, 128 + SIGKILL) << outcome.err;
    EXPECT_THAT(ReadText(workspace / fmt::format("report-{}", rank)), HasSubstr("fired"));
    EXPECT_THAT(ProcessesIn(workspace), IsEmpty());
    ExpectNoCrash(outcome);
    ExpectSameEnd(workspace);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, KilledRankTest, ::testing::Range(0, kRanks));

// At most so many operations of the first rank come before the first save.
constexpr int64_t kOperationsOfTheStart = 12;

struct DiskCase {
  const char* name;
  Action action;
  int rank;
  int error;
  int points;
};

class FailingDiskTest : public ::testing::TestWithParam<DiskCase> {};

TEST_P(FailingDiskTest, TrainingGoesOn) {
  const DiskCase& disk = GetParam();
  for (const Fault& fault : Spread(disk.action, disk.rank, disk.points, disk.error)) {
    SCOPED_TRACE(fmt::format("operation {} of rank {}", fault.index, fault.rank));
    const Workspace workspace;
    const Outcome outcome = workspace.Run(Train(fault));
    EXPECT_THAT(ReadText(workspace / fmt::format("report-{}", fault.rank)), HasSubstr("fired"));
    // A run that cannot take its folder (OWNER) does not begin.
    const bool begun = !Curve(workspace).empty();
    if (begun) {
      EXPECT_EQ(Curve(workspace), TheReference().curve);
    } else {
      EXPECT_EQ(fault.rank, 0);
      EXPECT_LT(fault.index, kOperationsOfTheStart);
    }
    EXPECT_THAT(outcome.err, HasSubstr(strerror(fault.error)));
    ExpectNoCrash(outcome);
    EXPECT_THAT(ProcessesIn(workspace), IsEmpty());
    // Only what would lose the end of the run is an error of the run.
    const bool saved = IsGood(workspace, kIterations);
    EXPECT_EQ(outcome.status, saved ? 0 : 3) << outcome.err;
    EXPECT_EQ(CountErrors(outcome.err), saved ? 0 : 1) << outcome.err;
    if (!saved) ExpectSameEnd(workspace);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Disks, FailingDiskTest,
    ::testing::Values(DiskCase{"ErrorOnTheFirst", Action::kFail, 0, EIO, 6},
                      DiskCase{"ErrorOnTheLast", Action::kFail, kRanks - 1, EIO, 4},
                      DiskCase{"NoSpaceOnTheLast", Action::kFail, kRanks - 1, ENOSPC, 3},
                      DiskCase{"QuotaOnTheFirst", Action::kFailAfter, 0, EDQUOT, 3},
                      DiskCase{"FullForGood", Action::kFullForever, 0, ENOSPC, 4},
                      DiskCase{"DeadForGood", Action::kFailForever, 0, EIO, 4},
                      DiskCase{"DeadForGoodOnTheLast", Action::kFailForever, kRanks - 1, EIO, 3}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace cairn::testing
