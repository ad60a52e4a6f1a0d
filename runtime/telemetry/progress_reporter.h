#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string_view>

#include "runtime/telemetry/step_line.h"

namespace cairn {

/// Shows the progress of training on `out`. Lines that stay: the first step, each
/// `log_interval`-th, the last, and any that was skipped or whose loss jumped. A terminal shows the
/// steps between them too, in one line that is written over, at most once per `refresh`.
class ProgressReporter {
 public:
  struct Options {
    bool is_terminal = false;
    int64_t log_interval = 1;  ///< at least 1
    std::chrono::milliseconds refresh{200};
  };

  /// `out` must outlive this.
  ProgressReporter(std::ostream& out, Options options);
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;
  /// Ends a live line, so that what is printed next begins on its own.
  ~ProgressReporter();

  /// To be called for every step; `progress.loss_z_score` is filled in here.
  void Report(const StepMetrics& metrics, StepProgress progress);
  /// A line that stays and says something else (an evaluation, a save).
  void Note(std::string_view line);

 private:
  using Clock = std::chrono::steady_clock;

  std::ostream& out_;
  const Options options_;
  LossTrend trend_;
  bool any_reported_ = false;
  bool live_ = false;  ///< the cursor stands behind a line to be written over
  Clock::time_point last_refresh_;
};

}  // namespace cairn
