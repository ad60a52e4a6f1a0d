#pragma once

#include <cstdint>
#include <string>

#include "runtime/telemetry/metrics.h"
#include "runtime/telemetry/output_file.h"

namespace cairn {

/// RUN_DIR/metrics.jsonl: one JSON object per line, written at once and whole. A number that is not
/// finite is written as null. One process (rank 0) writes. Errors: kIo.
class MetricsLog {
 public:
  /// Appends to `path`, which is made if missing; its directory must exist.
  explicit MetricsLog(const std::string& path);

  /// Opens `path` for a run that goes on after `iteration` (0: from the start): lines of later
  /// iterations go, since they will be written anew, and so do lines that are no metrics (the torn
  /// last line of a killed process). The file is replaced atomically, and only if a line goes.
  static MetricsLog OpenForResume(const std::string& path, int64_t iteration);

  void Write(const StepMetrics& metrics);
  void Write(const EvalMetrics& metrics);

 private:
  OutputFile file_;
};

/// The line of one iteration, without the newline. Keys: iteration, consumed_samples, lm_loss,
/// grad_norm, learning_rate, loss_scale, skipped, iteration_time_ms, tokens_per_second, mfu (only
/// where known), peak_memory_bytes.
std::string MetricsJson(const StepMetrics& metrics);
/// The line of one evaluation: iteration, lm_loss_validation.
std::string MetricsJson(const EvalMetrics& metrics);

}  // namespace cairn
