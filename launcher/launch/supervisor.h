#pragma once

#include <string>
#include <vector>

namespace cairn {

/// When a run that failed is started again.
struct RestartPolicy {
  int max_restarts = 0;
  double first_backoff_seconds = 1;  ///< doubled after each further start without progress
  double longest_backoff_seconds = 60;
};

/// Starts in a row without a new checkpoint after which a run is given up.
inline constexpr int kFruitlessStarts = 3;

/// Runs `words` (an mpirun command) until the run in `run_dir` is finished, and starts it again
/// where it failed. Progress is a checkpoint newer than before. After the second start without
/// any, the newest checkpoint is set aside, since the one before may get past what it leads to;
/// after kFruitlessStarts the run is given up, and a checkpoint that was set aside in vain is given
/// back.
///
/// Between two starts nothing of the first is left: every process that it started, orphans
/// included, is killed. SIGTERM, SIGINT and SIGUSR1 reach `words` as SIGUSR1, on which a run saves
/// and ends with status 4; a second SIGINT ends it at once. Statuses that another start would not
/// change (0, 1, 2, 4) are final. Returns the last status; says on standard error what happens.
int Supervise(const std::vector<std::string>& words, const std::string& run_dir,
              const RestartPolicy& policy);

}  // namespace cairn
