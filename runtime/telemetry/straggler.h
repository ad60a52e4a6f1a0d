#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace cairn {

/// A rank that is slower than it should be.
struct Straggler {
  int rank = 0;
  double slowdown = 1;       ///< its busy time over what it should be
  double share_of_step = 0;  ///< of each step, that the others wait for it
};

/// Finds slow ranks by their busy time: what they spent of a step not waiting for others. Ranks of
/// one pipeline stage do the same work, so that they are compared with each other; and every rank
/// with what it was at the start, as far as the others did not become slower too, so that one which
/// has no peers, or slow ones, is seen. It must be slow in most of the last steps, each judged by
/// itself: a few slow steps, a busy machine or a noisy host are no straggler.
class StragglerDetector {
 public:
  /// `stage_of_rank`: the pipeline stage of each rank. `ranks_per_core`: of the fullest host; where
  /// ranks share cores, one may take that many times as long as at the start only because the
  /// operating system gives the core to another.
  explicit StragglerDetector(const std::vector<int>& stage_of_rank, double ranks_per_core = 1);

  /// After each step: the seconds that each rank was busy, and that the step took. The straggler
  /// to tell of; nothing if there is none, or if it was told of lately.
  std::optional<Straggler> Observe(const std::vector<double>& busy_seconds, double step_seconds);

 private:
  struct Slowness {
    double slowdown = 0;  // busy time over what it should be; 0: not slow
    double share_of_step = 0;
  };

  /// What each rank should have been busy: what the others of its stage were, or itself at the
  /// start, whichever is less.
  std::vector<double> Expected(const std::vector<double>& busy_seconds) const;
  std::vector<Slowness> JudgeStep(const std::vector<double>& busy_seconds,
                                  double step_seconds) const;
  std::optional<Straggler> JudgeWindow(size_t rank) const;

  double ranks_per_core_;
  std::vector<std::vector<size_t>> peers_;       // ranks of each stage
  std::deque<std::vector<Slowness>> steps_;      // the last; of each rank
  std::vector<std::vector<double>> first_busy_;  // of each rank in the first window
  std::vector<double> at_start_;                 // each rank's median of the first window
  int64_t observed_ = 0;
  std::vector<int64_t> told_at_;  // by rank: when it was last told of
};

}  // namespace cairn
