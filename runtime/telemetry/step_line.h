#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/telemetry/metrics.h"

namespace cairn {

/// What the progress line says beyond the step's metrics.
struct StepProgress {
  int64_t total_iterations = 0;
  double data_wait_fraction = 0;  ///< of the iteration's time, spent waiting for the next batch
  double comm_wait_fraction = 0;  ///< of the iteration's time, spent waiting for other ranks
  std::optional<double> remaining_seconds;
  std::optional<double> loss_z_score;  ///< see LossTrend; printed from kLossSpike on
};

/// From this many standard deviations above its trend on, a loss is worth a remark.
inline constexpr double kLossSpike = 3;

/// One line without newline:
/// `iter   120/300 | loss 3.4121 | grad norm 0.812 | lr 9.3e-04 | 412 ms | 4,968 tok/s | mfu 41.2%
/// | mem 1.2 GiB | data 0.1% | comm 12.3% | left 1m14s`. Says mfu, memory and the remaining time
/// only where known, the loss scale only if it is not 1, and whether the step was skipped.
std::string FormatStepLine(const StepMetrics& metrics, const StepProgress& progress);

/// How far a loss stands from the recent ones: an exponentially weighted mean and variance.
class LossTrend {
 public:
  /// What a checkpoint keeps.
  struct State {
    int64_t count = 0;  ///< losses that joined
    double mean = 0;
    double variance = 0;
  };

  /// The z-score of `loss` against the losses that joined. Nothing while there are too few of them,
  /// or if `loss` is not finite.
  std::optional<double> ZScore(double loss) const;
  /// ZScore of `loss`, which then joins, if it is finite.
  std::optional<double> Add(double loss);

  const State& state() const { return state_; }
  void set_state(const State& state) { state_ = state; }

 private:
  State state_;
};

}  // namespace cairn
