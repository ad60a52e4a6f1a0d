#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/train_engine.h"
#include "parallel/checkpoint_saver.h"
#include "runtime/telemetry/metrics_log.h"
#include "runtime/telemetry/progress_reporter.h"
#include "runtime/telemetry/run_summary.h"
#include "runtime/telemetry/tensorboard.h"

namespace cairn {

/// What a run tells its user: the progress line, metrics.jsonl, TensorBoard events and the summary.
/// Lives on every rank, since it gathers what ranks measured; rank 0 alone writes.
class RunReporter {
 public:
  RunReporter(const TrainConfig& config, Communicator& world, Device& device, int64_t iteration);

  void BeginStep();
  /// Shows every step. Collective on logged iterations: each log_interval-th, the last, and those
  /// that were skipped; only these go to the files.
  void EndStep(TrainEngine& engine, const TrainEngine::StepOutcome& outcome);
  void Evaluated(const EvalMetrics& metrics);
  /// How a save ended.
  void Saved(const CheckpointSaver::Outcome& outcome);
  /// The training stood still for so long to have a checkpoint saved.
  void WaitedForSave(double seconds) { save_wait_seconds_ += seconds; }
  /// The run goes on after `iteration`, which it was beyond: metrics of later iterations go. Rank 0
  /// alone. Errors: kIo.
  void Rewound(int64_t iteration, const std::string& checkpoint);
  /// A line of its own on the progress display.
  void Note(std::string_view line);
  /// Collective: the summary at the end of the run.
  void Summarize(TrainEngine& engine, const std::string& program);

 private:
  bool first() const { return world_->rank() == 0; }
  std::string ResumeCommand(const TrainEngine& engine, const std::string& program) const;
  /// For a run that goes on after `iteration`.
  void OpenFiles(int64_t iteration);
  template <typename Metrics>
  void WriteFiles(const Metrics& metrics);

  const TrainConfig config_;
  Communicator* world_;
  Device* device_;
  const std::string gpu_model_;
  std::unique_ptr<MetricsLog> metrics_log_;  // rank 0
  std::unique_ptr<TensorBoardWriter> tensorboard_;
  std::unique_ptr<ProgressReporter> progress_;
  RunSummary summary_;
  Stopwatch since_start_;
  Stopwatch step_watch_;
  int64_t comm_wait_before_ns_ = 0;
  double save_wait_seconds_ = 0;
  bool writing_failed_ = false;  ///< the last write to the files; said once
};

}  // namespace cairn
