#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cairn {

/// What a process of a run did, as told when it ends. Empty and unknown parts are not printed.
struct RunSummary {
  int64_t last_iteration = 0;
  int64_t total_iterations = 0;
  int64_t iterations = 0;  ///< run by this process
  int64_t skipped_steps = 0;
  int64_t tokens = 0;  ///< trained on by this process's job
  double elapsed_seconds = 0;
  std::optional<double> first_loss;
  std::optional<double> last_loss;
  std::optional<double> validation_loss;
  /// (category, peak bytes on the largest rank), in the order to print.
  std::vector<std::pair<std::string, int64_t>> peak_memory;
  int64_t saves = 0;  ///< committed checkpoints
  int64_t saved_bytes = 0;
  double saving_seconds = 0;     ///< from a first file to a commit, summed over the saves
  double save_wait_seconds = 0;  ///< for which training stood still, on the slowest rank
  std::string last_checkpoint;   ///< path of the newest committed one
  std::string resume_command;    ///< what to type to go on from it
};

/// Several lines, the last one ended too.
std::string FormatRunSummary(const RunSummary& summary);

}  // namespace cairn
