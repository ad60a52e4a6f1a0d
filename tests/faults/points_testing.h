#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "journal.h"
#include "scenario_testing.h"
#include "shim.h"

namespace cairn::faults {

/// A scenario run without a fault.
struct Recording {
  FolderImage folder;  ///< before
  std::vector<JournalEntry>
      journal;  ///< marks "saved" and "retained" say when these calls returned
  /// Of the operations of a rank, by their index.
  std::vector<JournalEntry> OfRank(int rank) const;
  /// The index, among rank 0's operations, of the rename that commits.
  int64_t CommitIndex() const;
  /// How many operations of rank 0 come before the mark.
  int64_t Before(const std::string& mark) const;
};

/// How a child process ended.
struct ChildEnd {
  bool hung = false;  ///< it had to be killed
  int status = 0;     ///< as waitpid gives it
};

/// Runs `body` in a forked process, which must end before `limit`. The caller has no other threads.
ChildEnd RunChild(const std::function<void()>& body,
                  std::chrono::seconds limit = std::chrono::seconds(30));

/// What the ranks say, in memory that they share with the parent.
struct Shared {
  struct Outcome {
    bool done;  ///< the call returned or threw a CollectiveError
    bool failed;
    char error[1024];
  };
  Report report;
  Outcome save[kMaxRanks];
  Outcome retention[kMaxRanks];
  char problem[4096];  ///< what rank 0 found wrong
};

class Points {
 public:
  /// Records `scenario`. What the folder holds before is `before`, if given.
  explicit Points(Scenario scenario);
  Points(Scenario scenario, FolderImage before);

  const Scenario& scenario() const { return scenario_; }
  const Recording& recording() const { return recording_; }
  const Scratch& scratch() const { return scratch_; }

  /// Every fault at every operation of every rank.
  std::vector<Plan> All() const;

  /// Injects one fault. What is then not as it must be; empty: all is well. For a kill, the folder
  /// is left as the kill left it if `go_on` is false.
  std::vector<std::string> Inject(const Plan& plan, bool go_on = true);

  /// Puts the folder before the save back, and an empty journal.
  void Reset();
  /// Saves and retains in a child, in the folder as it is; `journal`: to be appended to.
  ChildEnd Run(const Scenario& scenario, const Plan& plan, bool journal);
  const Shared& shared() const { return *shared_; }

 private:
  void Record();
  void CheckKilled(const Plan& plan, std::vector<std::string>& problems);
  void CheckSurvived(const Plan& plan, std::vector<std::string>& problems);

  Scenario scenario_;
  Scratch scratch_;
  Recording recording_;
  std::shared_ptr<Shared> shared_;
};

/// "sync" and the like.
const char* OperationName(Operation operation);

/// "fail with EIO at operation 12 of rank 1 (sync run/checkpoints/step-00000010)".
std::string Describe(const Plan& plan, const Report& report);

/// What must hold whenever a run's process or machine stopped: see the definition.
void CheckStopped(const Scenario& scenario, const std::string& run_dir, bool must_be_committed,
                  bool may_be_committed, std::vector<std::string>& problems);

}  // namespace cairn::faults
