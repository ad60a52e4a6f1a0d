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

namespace cairn::faults {
namespace {

using ::testing::IsEmpty;

constexpr size_t kStatesAtAnOperation = 100;

// Nobody reads a file that has not got its name yet.
FolderImage WithoutParts(FolderImage image) {
  for (auto& [path, content] : image) {
    if (path.ends_with(".part")) content = "";
  }
  return image;
}

// What a run was told so far, as the marks of the journal say.
struct Promises {
  Scenario scenario;    // whose save is under way
  int64_t unsure = -1;  // an attempt that retention may have taken for a checkpoint
  bool saved = false;
  bool retained = false;

  void Hear(const std::string& mark) {
    if (mark == "saved") {
      saved = true;
    } else if (mark == "retained") {
      retained = true;
    } else {
      if (saved) scenario.committed.push_back(scenario.iteration);
      if (!saved) scenario.aborted.push_back(scenario.iteration);
      const std::set<int64_t> kept =
          scenario.Kept({scenario.committed.begin(), scenario.committed.end()});
      if (saved) scenario.committed.assign(kept.begin(), kept.end());
      scenario.iteration = std::stoll(mark.substr(mark.find(' ')));
      saved = retained = false;
    }
  }

  std::string ToString() const {
    return fmt::format("{} {} {} {} {}", fmt::join(scenario.committed, ","),
                       fmt::join(scenario.aborted, ","), scenario.iteration, saved, retained);
  }

  std::vector<std::string> Check(const std::string& run_dir) const {
    std::vector<std::string> problems;
    CheckStopped(scenario, run_dir, saved, true, problems);
    std::set<int64_t> aborted = AbortedAttempts(run_dir);
    aborted.erase(unsure);
    if (retained && !aborted.empty()) problems.emplace_back("what was removed is back");
    return problems;
  }
};

// States that were looked at, with what was promised then.
using Seen = std::set<std::pair<std::string, FolderImage>>;

// A run of which the power is lost at any time.
struct Timeline {
  Scenario scenario;
  std::string root;
  FolderImage before;
  std::vector<JournalEntry> journal;
  size_t skipped = 0;   ///< entries of the journal after which the scenario's save begins
  int64_t unsure = -1;  ///< a checkpoint of the scenario that may be lost, until another one was
                        ///< removed because it was there
};

// Looks at every state that was not seen, until a problem.
std::vector<std::string> LosePower(const Timeline& run, Seen& seen) {
  std::mt19937_64 random(1);
  Disk disk(run.root, run.before);
  const Scratch scratch;
  Promises promises = {.scenario = run.scenario};
  Promises without = {.scenario = run.scenario, .unsure = run.unsure};
  std::erase(without.scenario.committed, run.unsure);
  without.scenario.aborted.push_back(run.unsure);
  for (size_t i = 0; i <= run.journal.size(); ++i) {
    if (i >= run.skipped) {
      for (const FolderImage& image : disk.AfterPowerLoss(kStatesAtAnOperation, random)) {
        if (!seen.emplace(promises.ToString(), WithoutParts(image)).second) continue;
        WriteFolder(scratch.root(), image);
        std::vector<std::string> problems = promises.Check(scratch.run());
        if (!problems.empty() && run.unsure >= 0 && without.Check(scratch.run()).empty()) {
          problems.clear();
        }
        if (problems.empty()) GoOn(scratch.run(), promises.scenario, problems);
        for (std::string& problem : problems) {
          problem = fmt::format("power loss after {} operations{}: {}", i,
                                promises.saved ? " (saved)" : "", problem);
        }
        if (!problems.empty()) return problems;
      }
    }
    if (i == run.journal.size()) break;
    disk.Apply(run.journal[i]);
    // The first mark is of the scenario's own save.
    if (i <= run.skipped || !run.journal[i].mark) continue;
    promises.Hear(run.journal[i].path);
    without.Hear(run.journal[i].path);
  }
  return {};
}

Timeline TimelineOf(const Points& points) {
  return {.scenario = points.scenario(),
          .root = points.scratch().root(),
          .before = points.recording().folder,
          .journal = points.recording().journal};
}

// The same for a run that another one follows, which `kill` ended.
Timeline KillThenRun(Points& points, const Plan& kill, const Plan& plan) {
  points.Reset();
  points.Run(points.scenario(), kill, /*journal=*/true);
  const std::vector<JournalEntry> first = ReadJournal(points.scratch().journal());
  Timeline timeline = TimelineOf(points);
  timeline.scenario = Found(points.scenario(), points.scratch().run());
  timeline.skipped = first.size();
  const bool saved = std::ranges::any_of(
      first, [](const JournalEntry& entry) { return entry.mark && entry.path == "saved"; });
  if (!saved) timeline.unsure = points.scenario().iteration;
  points.Run(timeline.scenario, plan, /*journal=*/true);
  timeline.journal = ReadJournal(points.scratch().journal());
  return timeline;
}

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
  const std::vector<std::string> problems = LosePower(TimelineOf(points), seen);
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
    EXPECT_THAT(LosePower(timeline, seen), IsEmpty())
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
    const std::vector<std::string> problems = LosePower(run, seen);
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
                 seen)
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
