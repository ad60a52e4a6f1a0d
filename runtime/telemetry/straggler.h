#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace cairn {

/// A rank that is slower than it should be.
struct Straggler {
  int rank = 0;
  double slowdown = 1;       ///< its busy time over that of its peers, or its own at the start
  double share_of_step = 0;  ///< of each step, that the others wait for it
};

/// Finds slow ranks by their busy time: what they spent of a step not waiting for others. Ranks of
/// one pipeline stage do the same work, so that they are compared with each other; and every rank
/// with what it was at the start, so that one which has no peers, or slow ones, is seen too.
/// Medians over the last steps: one slow step, or a noisy host, is no straggler.
class StragglerDetector {
 public:
  /// `stage_of_rank`: the pipeline stage of each rank.
  explicit StragglerDetector(std::vector<int> stage_of_rank);

  /// After each step: the seconds that each rank was busy, and that the step took. The straggler
  /// to tell of; nothing if there is none, or if it was told of lately.
  std::optional<Straggler> Observe(const std::vector<double>& busy_seconds, double step_seconds);

 private:
  double Expected(int rank, const std::vector<double>& medians) const;

  std::vector<int> stages_;
  std::vector<std::deque<double>> busy_;  // of each rank, the last steps
  std::deque<double> step_seconds_;
  std::vector<double> at_start_;  // medians of the first window
  int64_t observed_ = 0;
  int last_told_ = -1;
  int64_t told_at_ = 0;
};

}  // namespace cairn
