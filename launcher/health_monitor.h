#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/watchdog.h"
#include "runtime/telemetry/stopwatch.h"
#include "runtime/telemetry/straggler.h"

namespace cairn {

/// Watches the ranks of a run for one that hangs, which ends the run (see Watchdog), and for one
/// that is slow, which is told of. A run of one rank has nobody to wait for.
class HealthMonitor {
 public:
  struct Options {
    std::string run_dir;
    double hang_timeout_seconds = 10;  ///< Watchdog::Options::least_seconds; 0: wait for ever
  };

  /// Collective over the mesh's world.
  HealthMonitor(const Mesh& mesh, const Options& options);

  /// Called by a rank that is to end the run with an error: returns at once on the first such rank;
  /// on others, which most often met the same error, only after the first had the time to report it
  /// and to end them.
  void LetFirstReport() const;

  /// Before each step, and after it; every rank passes the busy time of the step before on.
  void BeginStep(int64_t iteration);
  void EndStep();
  /// The time that this rank spent in the last step not waiting for others: 0 before the first.
  double busy_seconds() const { return busy_seconds_; }
  /// From every rank's busy_seconds(): a sentence about a slow rank, once in a while.
  std::optional<std::string> FindStraggler(const std::vector<double>& busy_seconds);

 private:
  Communicator& world_;
  std::vector<std::string> hosts_;
  StragglerDetector stragglers_;
  std::string directory_;  // of the flight files; empty: a run of one rank
  std::unique_ptr<Watchdog> watchdog_;
  Stopwatch step_;
  int64_t wait_before_ns_ = 0;
  double step_seconds_ = 0;
  double step_before_seconds_ = 0;
  double busy_seconds_ = 0;
};

}  // namespace cairn
