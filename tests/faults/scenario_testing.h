#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "folder_image_testing.h"
#include "parallel/communicator.h"

namespace cairn::faults {

/// A save that will meet a fault: what the run's folder holds before, which save, by how many
/// ranks, and what retention follows.
struct Scenario {
  std::string name;
  int ranks = 2;
  std::vector<int64_t> committed =
      {};  ///< iterations, each saved by one rank more than the one before
  std::vector<int64_t> aborted = {};      ///< saves that a kill ended just before their commit
  std::vector<int64_t> quarantined = {};  ///< found damaged and set aside
  std::vector<int64_t> removed = {};      ///< by an earlier retention, perhaps not for good
  int64_t iteration = 0;                  ///< of the save
  int64_t keep = 0;
  int64_t protect = -1;

  /// Of `good` committed iterations, those that retention keeps.
  std::set<int64_t> Kept(const std::set<int64_t>& good) const;
};

/// The hand-picked scenarios.
const std::vector<Scenario>& Scenarios();
/// Any scenario, drawn by `seed`.
Scenario RandomScenario(uint64_t seed);

/// What stands in the folder before the save. `scratch` is where it is made.
FolderImage Before(const Scenario& scenario, const Scratch& scratch);

/// Saves the state of `iteration`. Collective. The state is a pure function of the iteration.
void Save(Communicator& world, const std::string& run_dir, int64_t iteration);
/// Applies the retention of `scenario`. Collective.
void Retain(Communicator& world, const std::string& run_dir, const Scenario& scenario);

/// The iterations whose folder has COMMIT, a full verification finds sound, and which hold the
/// state of that iteration to the bit. What else is wrong with the run's folder (a COMMIT that does
/// not hold what it says, a name that nobody gave, a hint that leads nowhere) goes to `problems`.
std::set<int64_t> GoodCheckpoints(const std::string& run_dir, std::vector<std::string>& problems);

/// Iterations whose folder has no COMMIT.
std::set<int64_t> AbortedAttempts(const std::string& run_dir);

/// `scenario` as a restarted run finds it: what stands in the folder, and the save that is next.
Scenario Found(const Scenario& scenario, const std::string& run_dir);

/// Goes on from what stands in the folder, as a restarted run does: takes the newest good
/// checkpoint, then saves and retains until after the iteration of `scenario`. What does not go as
/// it must goes to `problems`. `clean`: at the end the folder must hold what is kept and no more.
void GoOn(const std::string& run_dir, const Scenario& scenario, std::vector<std::string>& problems);

}  // namespace cairn::faults
