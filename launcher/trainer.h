#pragma once

#include <memory>
#include <optional>
#include <string>

#include "launcher/health_monitor.h"
#include "launcher/loss_anomaly_count.h"
#include "launcher/run_reporter.h"
#include "launcher/stop_signal.h"
#include "launcher/train_engine.h"
#include "parallel/checkpoint_saver.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/fence.h"
#include "runtime/data/gpt_dataset.h"

namespace cairn {

/// A training run on one rank, from the first batch to the last checkpoint.
class Trainer {
 public:
  /// Collective over the mesh's world: opens the data, finds the checkpoint that checkpoint.load
  /// asks for, and loads it or starts afresh. `stop` says when to end early. `program` is how the
  /// user called Cairn, for the resume command. Throws CollectiveError.
  Trainer(const LoadedConfig& loaded, const Mesh& mesh, Device& device, StopSignal& stop,
          const std::string& program);

  /// kExitOk when train_iters are done, kExitInterrupted after a clean save on request.
  ExitStatus Run();

 private:
  ExitStatus Train();
  void OpenData();
  /// Decides on rank 0 what to load; empty: start afresh.
  std::string ChooseCheckpoint();
  /// Makes this process the run's owner, and chooses again where another committed meanwhile.
  std::string TakeRun(std::string checkpoint);
  /// Throws where `damaged` checkpoints are all that a run has: it must not begin anew over them.
  void RefuseToForget(const std::vector<std::string>& damaged) const;
  /// The engine with its weights: those of `checkpoint`, or initial ones where that is empty. Waits
  /// for no other rank.
  void BuildEngine(const std::string& checkpoint, Device& device);
  /// Says on standard error what starts.
  void Announce(const std::string& checkpoint) const;
  void EvaluateAndReport();
  /// One step of the engine, watched, and reported.
  TrainEngine::StepOutcome Step(const SampleReader& next_sample);
  /// Says what is wrong and does what loss_anomaly_policy asks for. Throws CollectiveError when the
  /// run ends by it. True if the run is now at an earlier iteration.
  bool HandleAnomaly(const TrainEngine::StepOutcome& outcome, const SampleReader& next_sample);
  /// Goes back to the newest good checkpoint that is rewind_iters away, and passes over the samples
  /// since. Later checkpoints are set aside.
  void Rewind();
  /// The newest good checkpoint of `latest` or before, damaged ones set aside. For one rank.
  std::string FindRewindTarget(int64_t latest) const;
  /// Begins a save. How it ends is reported when all ranks know; training goes on after a failure.
  void Save();
  /// Saves and waits, unless this iteration is saved already. A failure is an error.
  void SaveAtEnd();
  /// Waits for the oldest pending save and reports it; how it ended.
  CheckpointSaver::Outcome CollectSave();
  /// Waits for all pending saves, before `reason`, which all ranks have, ends the run: what was
  /// begun is committed, and MPI must not end while a save's messages are under way.
  void FinishSaves(const CollectiveError& reason);
  bool Due(int64_t interval) const { return interval > 0 && engine_->iteration() % interval == 0; }
  bool OutOfTime() const;

  LoadedConfig loaded_;
  const TrainConfig& config_;
  const Mesh* mesh_;
  StopSignal* stop_;
  std::string program_;
  Stopwatch since_start_;
  std::unique_ptr<TrainEngine> engine_;
  std::unique_ptr<GptDataset> train_data_;
  std::unique_ptr<GptDataset> valid_data_;
  std::unique_ptr<RunReporter> reporter_;
  std::unique_ptr<HealthMonitor> health_;
  std::optional<RunFence> fence_;  ///< of rank 0
  std::unique_ptr<CheckpointSaver> saver_;
  LossAnomalyCount anomalies_;
  std::string last_culprit_;        ///< said once
  int64_t resumed_iteration_ = -1;  ///< of the checkpoint that was loaded last
  int64_t saved_iteration_ = -1;    ///< of the newest checkpoint that is committed
};

}  // namespace cairn
