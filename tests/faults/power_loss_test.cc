// What may stand on the disk when power is lost at any time of a save, its commit and retention.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "points_testing.h"
#include "power_loss_testing.h"
#include "timeline_testing.h"

namespace cairn::faults {
namespace {

using ::testing::IsEmpty;

constexpr size_t kStatesAtAnOperation = 100;

class PowerLossTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(PowerLossTest, TheJournalExplainsTheFolder) {
  Points points(GetParam());
  Disk disk(points.scratch().root(), points.recording().folder);
  for (const JournalEntry& entry : points.recording().journal) disk.Apply(entry);
  EXPECT_EQ(disk.Now(), ReadFolder(points.scratch().root()));
}

TEST_P(PowerLossTest, WhatIsCommittedSurvives) {
  const Points points(GetParam());
  Seen seen;
  const std::vector<std::string> problems =
      LosePower(TimelineOf(points), kStatesAtAnOperation, seen);
  EXPECT_THAT(problems, IsEmpty());
  fmt::print("{} states\n", seen.size());
}

// A run that a kill ended, and the next one that finds what it left: the power goes in the second.
TEST_P(PowerLossTest, AfterAKillToo) {
  Points points(GetParam());
  Seen seen;
  for (const Plan& plan : points.All()) {
    // Ranks but the first are alike.
    if (plan.action != Action::kKillAfter || plan.one_rank || plan.rank > 1) continue;
    const Timeline timeline = KillThenRun(points, plan, {});
    EXPECT_THAT(LosePower(timeline, kStatesAtAnOperation, seen), IsEmpty())
        << "kill after operation " << plan.index << " of rank " << plan.rank;
  }
  fmt::print("{} states\n", seen.size());
}

// A sync that fails leaves what it should have made durable in doubt for ever: later ones, though
// they succeed, prove nothing.
TEST_P(PowerLossTest, AfterAFailedSyncToo) {
  Points points(GetParam());
  Seen seen;
  for (const Plan& plan : points.All()) {
    if (plan.action != Action::kFail || plan.error != EIO) continue;
    const JournalEntry entry = points.recording().OfRank(plan.rank)[plan.index];
    // Not those of the hint, which nothing relies on.
    const bool commits = plan.rank != 0 || plan.index <= points.recording().CommitIndex() + 2;
    if (entry.operation != Operation::kSync || !commits) continue;
    points.Reset();
    points.Run(points.scenario(), plan, /*journal=*/true);
    Timeline run = TimelineOf(points);
    run.journal = ReadJournal(points.scratch().journal());
    const std::vector<std::string> problems = LosePower(run, kStatesAtAnOperation, seen);
    EXPECT_THAT(problems, IsEmpty()) << Describe(plan, points.shared().report);
  }
  fmt::print("{} states\n", seen.size());
}

// The step of the protocol that a sync belongs to: "sync X after rename Y by rank 0".
std::string PlaceOf(const std::vector<JournalEntry>& operations, size_t sync) {
  const JournalEntry& entry = operations[sync];
  std::string place = fmt::format("sync {}", entry.path.substr(entry.path.find("/root") + 5));
  const auto closes = [&](size_t i) { return operations[i].operation == Operation::kClose; };
  size_t before = sync;
  while (before > 0 && (before == sync || closes(before))) --before;
  const JournalEntry& last = operations[before];
  const std::string& path = last.target.empty() ? last.path : last.target;
  if (before != sync) {
    place += fmt::format(" after {} {}", OperationName(last.operation),
                         path.substr(path.find("/root") + 5));
  }
  std::erase_if(place, [](char c) { return std::isdigit(c) != 0; });
  return place + (entry.rank == 0 ? " by rank 0" : " by another");
}

// Each sync is there for a reason: where it is left out, power loss shows it, be it in one scenario
// only, or where a kill came before.
TEST(SyncTest, EachIsNeeded) {
  std::map<std::string, bool> needed;  // by place
  // Leaves out each sync of the run that follows `kill`, in turn.
  const auto leave_out = [&](Points& points, const Plan& kill) {
    const auto run = [&](const Plan& plan) {
      if (kill.action != Action::kNone) return KillThenRun(points, kill, plan);
      points.Reset();
      points.Run(points.scenario(), plan, /*journal=*/true);
      Timeline timeline = TimelineOf(points);
      timeline.journal = ReadJournal(points.scratch().journal());
      return timeline;
    };
    const Timeline whole = run({});
    const Recording recording = {
        .folder = {}, .journal = {whole.journal.begin() + whole.skipped, whole.journal.end()}};
    for (int rank = 0; rank < points.scenario().ranks; ++rank) {
      const std::vector<JournalEntry> own = recording.OfRank(rank);
      for (size_t index = 0; index < own.size(); ++index) {
        if (own[index].operation != Operation::kSync) continue;
        bool& shows = needed[PlaceOf(own, index)];
        if (shows) continue;
        Seen seen;
        shows =
            !LosePower(
                 run({.action = Action::kSkip, .rank = rank, .index = static_cast<int64_t>(index)}),
                 kStatesAtAnOperation, seen)
                 .empty();
      }
    }
  };
  for (const Scenario& scenario : Scenarios()) {
    Points points(scenario);
    leave_out(points, {});
    if (scenario.ranks != 2) continue;
    const std::vector<JournalEntry> own = points.recording().OfRank(0);
    for (int64_t index = 0; index <= points.recording().CommitIndex(); ++index) {
      const Operation operation = own[index].operation;
      if (operation == Operation::kMakeFolder || index == points.recording().CommitIndex()) {
        leave_out(points, {.action = Action::kKillAfter, .rank = 0, .index = index});
      }
    }
  }
  // But for two that another one of the same rank makes superfluous here: that of the folder after
  // rank 0's shard, which comes again after the manifest, and retention's of what was committed
  // just before.
  EXPECT_EQ(needed.erase("sync /run/checkpoints/step- after rename "
                         "/run/checkpoints/step-/shard-.safetensors by rank 0"),
            1U);
  EXPECT_EQ(needed.erase("sync /run/checkpoints/step- after sync /run/checkpoints by rank 0"), 1U);
  for (const auto& [place, shows] : needed) {
    EXPECT_TRUE(shows) << "without it nothing is lost: " << place;
  }
  fmt::print("{} syncs\n", needed.size());
}

INSTANTIATE_TEST_SUITE_P(Scenarios, PowerLossTest, ::testing::ValuesIn(Scenarios()),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::erase_if(name, [](char c) { return std::isalpha(c) == 0; });
                           return name;
                         });

}  // namespace
}  // namespace cairn::faults
