#include "timeline_testing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <random>

#include "power_loss_testing.h"

namespace cairn::faults {
namespace {

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
    // A newer one may be a save under way.
    if (retained && !aborted.empty() && *aborted.begin() < scenario.iteration) {
      problems.emplace_back("what was removed is back");
    }
    return problems;
  }
};

}  // namespace

std::vector<std::string> LosePower(const Timeline& run, size_t limit, Seen& seen, uint64_t seed) {
  std::mt19937_64 random(seed);
  Disk disk(run.root, run.before);
  const Scratch scratch;
  Promises promises = {.scenario = run.scenario};
  Promises without = {.scenario = run.scenario, .unsure = run.unsure};
  std::erase(without.scenario.committed, run.unsure);
  without.scenario.aborted.push_back(run.unsure);
  for (size_t i = 0; i <= run.journal.size(); ++i) {
    if (i >= run.skipped) {
      for (const FolderImage& image : disk.AfterPowerLoss(limit, random)) {
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

}  // namespace cairn::faults
