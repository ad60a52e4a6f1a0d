#include "launcher/trainer.h"

#include <glog/logging.h>

#include <algorithm>
#include <vector>

#include "launcher/checkpoint_fit.h"
#include "parallel/agreement.h"
#include "parallel/shared_storage.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/store.h"

namespace cairn {

Trainer::Trainer(const LoadedConfig& loaded, const Mesh& mesh, Device& device, StopSignal& stop,
                 const std::string& program)
    : loaded_(loaded),
      config_(loaded_.config),
      mesh_(&mesh),
      stop_(&stop),
      program_(program),
      anomalies_(config_.train().loss_anomaly_policy() == "rewind" ? config_.train().rewind_iters()
                                                                   : 1) {
  // Whatever the inputs have wrong is found before the model takes memory.
  OpenData();
  std::string checkpoint = RunOnFirst(mesh.world(), [&] { return ChooseCheckpoint(); });
  CheckSharedStorage(mesh.world(), config_.run_dir());
  checkpoint = RunOnFirst(mesh.world(), [&] { return TakeRun(std::move(checkpoint)); });
  RunTogether(mesh.world(), [&] { BuildEngine(checkpoint, device); });
  engine_->Publish();
  if (mesh.world().rank() == 0) Announce(checkpoint);
  RunOnFirst(mesh.world(), [&] {
    WriteFileAtomically(JoinPath(config_.run_dir(), "config.textproto"), ConfigText(config_));
    return std::string();
  });
  reporter_ = std::make_unique<RunReporter>(config_, mesh.world(), device, engine_->iteration());
  health_ = std::make_unique<HealthMonitor>(
      mesh, HealthMonitor::Options{config_.run_dir(), config_.train().hang_timeout_seconds()});
  const TrainConfig::Checkpoint& checkpoints = config_.checkpoint();
  saver_ = std::make_unique<CheckpointSaver>(
      mesh.world(),
      CheckpointSaver::Options{
          .run_dir = config_.run_dir(),
          .retention = {checkpoints.keep(), checkpoints.save_retain_interval(), resumed_iteration_},
          .guard = fence_ ? CommitGuard([this] { fence_->Check(); }) : CommitGuard(),
          .async = checkpoints.async()});
}

void Trainer::OpenData() {
  RunTogether(mesh_->world(), [&] {
    auto data = std::make_shared<const IndexedDataset>(config_.data().data_path(0));
    GptDatasetOptions options;
    options.split_weights = config_.data().split();
    options.seq_length = config_.model().seq_length();
    options.seed = static_cast<uint32_t>(config_.train().seed());
    options.vocab_size = config_.model().vocab_size();
    const int64_t batch = config_.train().global_batch_size();
    options.num_samples = config_.train().train_iters() * batch;
    train_data_ = std::make_unique<GptDataset>(data, options);
    if (config_.train().eval_interval() > 0) {
      options.split = DatasetSplit::kValid;
      options.num_samples = config_.train().eval_iters() * batch;
      valid_data_ = std::make_unique<GptDataset>(data, options);
    }
  });
}

std::string Trainer::ChooseCheckpoint() {
  const std::string& run_dir = config_.run_dir();
  const std::string& load = config_.checkpoint().load();
  std::string chosen;
  if (load == "auto") {
    std::vector<std::string> damaged;
    auto passed_over = [&](const std::string& path, const std::string& reason) {
      fmt::print(stderr, "cairn: passing over {}: {}\n", path, reason);
      damaged.push_back(path);
    };
    chosen = FindNewestGood(run_dir, VerifyLevel::kFull, passed_over).value_or("");
    if (chosen.empty()) RefuseToForget(damaged);
    for (const std::string& path : damaged) QuarantineCheckpoint(path);
  } else if (!load.empty()) {
    chosen = ResolveCheckpoint(load);
  }
  const int64_t start = chosen.empty() ? 0 : LoadManifest(chosen).iteration;
  int64_t newest = 0;
  for (const CheckpointInfo& info : ListCheckpoints(run_dir)) {
    if (info.state == CheckpointState::kCommitted) newest = std::max(newest, info.iteration);
  }
  if (newest > start) {
    Throw(ErrorKind::kConfig, loaded_.locations.Where("checkpoint.load"),
          "{} already holds a checkpoint of iteration {}, this run would start at {} and overwrite "
          "it; set checkpoint.load: \"auto\" to go on from it, or another run_dir",
          run_dir, newest, start);
  }
  return chosen;
}

std::string Trainer::TakeRun(std::string checkpoint) {
  const auto committed = [&] {
    std::vector<std::string> paths;
    for (const CheckpointInfo& info : ListCheckpoints(config_.run_dir())) {
      if (info.state == CheckpointState::kCommitted) paths.push_back(info.path);
    }
    return paths;
  };
  const std::vector<std::string> before = committed();
  fence_ = RunFence::Take(config_.run_dir());
  return committed() == before ? std::move(checkpoint) : ChooseCheckpoint();
}

void Trainer::RefuseToForget(const std::vector<std::string>& damaged) const {
  // What was never committed is no loss.
  const auto lost = std::ranges::find_if(damaged, WasCommitted);
  if (lost == damaged.end()) return;
  Throw(
      ErrorKind::kCheckpoint, *lost,
      "is damaged, and {} holds no good checkpoint: a start from nothing would overwrite what may "
      "be mended (`cairn ckpt verify`, `cairn ckpt repair`); to train anew give another run_dir",
      config_.run_dir());
}

void Trainer::BuildEngine(const std::string& checkpoint, Device& device) {
  if (checkpoint.empty()) {
    engine_ = std::make_unique<TrainEngine>(config_, *mesh_, device);
    return engine_->Initialize();
  }
  CheckpointReader reader(checkpoint);
  CheckFit(reader.manifest(), config_, checkpoint);
  engine_ = std::make_unique<TrainEngine>(config_, *mesh_, device);
  engine_->Load(reader);
  resumed_iteration_ = saved_iteration_ = engine_->iteration();
}

void Trainer::Announce(const std::string& checkpoint) const {
  const int ranks = mesh_->world().size();
  fmt::print(stderr, "run {}: {} on {} rank{} ({}), {}\n", config_.run_dir(),
             config_.train().precision(), ranks, ranks == 1 ? "" : "s", mesh_->shape().ToString(),
             checkpoint.empty() ? "starting afresh"
                                : fmt::format("resuming from {} (iteration {})", checkpoint,
                                              engine_->iteration()));
}

ExitStatus Trainer::Run() {
  try {
    try {
      return Train();
    } catch (const CollectiveError& error) {
      FinishSaves(error);
      throw;
    }
  } catch (const CollectiveError&) {
    throw;  // all ranks have it, and the first reports it
  } catch (const std::exception&) {
    health_->LetFirstReport();
    throw;
  }
}

ExitStatus Trainer::Train() {
  const SampleReader next_sample = [this](int64_t index, std::span<int32_t> tokens) {
    // The order of the samples is that of train_iters batches: what a rewind passed over is made up
    // for from the beginning.
    train_data_->Get(index % train_data_->size(), tokens);
  };
  bool leave = false;
  while (!leave && engine_->iteration() < config_.train().train_iters()) {
    const TrainEngine::StepOutcome outcome = Step(next_sample);
    if (outcome.status.save_finished) CollectSave();
    if (outcome.anomaly != LossAnomaly::kNone && HandleAnomaly(outcome, next_sample)) continue;
    if (Due(config_.train().check_weight_hash_across_dp_replicas_interval())) {
      engine_->CheckReplicatedWeights();
    }
    if (Due(config_.train().eval_interval())) EvaluateAndReport();
    const bool stop = outcome.status.stop_requested;
    leave = stop || Due(config_.train().exit_interval());
    if (stop) reporter_->Note("asked to stop: saving after this iteration");
    if (Due(config_.checkpoint().save_interval()) && !leave) Save();
  }
  const bool done = engine_->iteration() >= config_.train().train_iters();
  while (saver_->pending() > 0) CollectSave();
  if (!done || config_.checkpoint().save_at_end()) SaveAtEnd();
  reporter_->Summarize(*engine_, program_);
  return done ? kExitOk : kExitInterrupted;
}

TrainEngine::StepOutcome Trainer::Step(const SampleReader& next_sample) {
  reporter_->BeginStep();
  health_->BeginStep(engine_->iteration() + 1);
  TrainEngine::StepOutcome outcome =
      engine_->Step(next_sample, {.stop_requested = stop_->Requested() || OutOfTime(),
                                  .save_finished = saver_->finished(),
                                  .busy_seconds = {health_->busy_seconds()}});
  health_->EndStep();
  reporter_->EndStep(*engine_, outcome);
  if (const auto straggler = health_->FindStraggler(outcome.status.busy_seconds)) {
    reporter_->Note(*straggler);
  }
  return outcome;
}

bool Trainer::HandleAnomaly(const TrainEngine::StepOutcome& outcome,
                            const SampleReader& next_sample) {
  const TrainConfig::Train& train = config_.train();
  const std::string where = fmt::format("iteration {}", engine_->iteration());
  const int64_t count = anomalies_.Add(engine_->iteration());
  std::string what;
  Culprit culprit;
  if (outcome.anomaly == LossAnomaly::kSpike) {
    what = fmt::format("loss {:.4f} is {:.1f} standard deviations above the recent ones",
                       outcome.lm_loss, outcome.loss_z_score);
  } else {
    culprit = engine_->Diagnose(next_sample);
    what = outcome.anomaly == LossAnomaly::kLossNotFinite ? "the loss is not finite"
                                                          : "the gradient is not finite";
    if (culprit.text != last_culprit_) what += "; " + culprit.text;
    last_culprit_ = culprit.text;
  }
  const auto end = [&](const std::string& why) {
    throw CollectiveError(ErrorKind::kNumeric, where, what + "; " + why);
  };
  if (train.loss_anomaly_policy() == "stop") end("loss_anomaly_policy is stop");
  if (count > train.max_loss_anomalies()) {
    end(fmt::format("max_loss_anomalies {} is exceeded", train.max_loss_anomalies()));
  }
  const bool rewind = train.loss_anomaly_policy() == "rewind";
  if (!rewind && culprit.in_state) {
    end("skipping steps does not mend that: resume from a checkpoint before it, or set "
        "loss_anomaly_policy rewind");
  }
  reporter_->Note(fmt::format("loss anomaly at {}: {}; {} ({} of at most {} in a row)", where, what,
                              rewind ? "rewinding" : "no update", count,
                              train.max_loss_anomalies()));
  if (rewind) Rewind();
  return rewind;
}

std::string Trainer::FindRewindTarget(int64_t latest) const {
  std::vector<CheckpointInfo> infos = ListCheckpoints(config_.run_dir());
  std::ranges::reverse(infos);
  for (const CheckpointInfo& info : infos) {
    if (info.state != CheckpointState::kCommitted || info.iteration > latest) continue;
    const std::vector<Damage> damages = VerifyCheckpoint(info.path, VerifyLevel::kFull);
    if (damages.empty()) return info.path;
    reporter_->Note(fmt::format("passing over {}: {}", info.path, Describe(damages.front())));
    QuarantineCheckpoint(info.path);
  }
  Throw(ErrorKind::kNumeric, fmt::format("iteration {}", engine_->iteration()),
        "loss_anomaly_policy is rewind, and {} has no good checkpoint of iteration {} or before",
        config_.run_dir(), latest);
}

void Trainer::Rewind() {
  while (saver_->pending() > 0) CollectSave();
  const int64_t iteration = engine_->iteration();
  const int64_t next_sample = engine_->next_sample();
  int64_t latest = iteration - config_.train().rewind_iters();
  // One that leads here at once is no good.
  if (iteration - 1 == resumed_iteration_) latest = std::min(latest, resumed_iteration_ - 1);
  // The disk may keep ranks waiting for longer than the watchdog would have it.
  const std::unique_ptr<Communicator> group = mesh_->world().Background("checkpoint");
  const std::string checkpoint = RunOnFirst(*group, [&] { return FindRewindTarget(latest); });
  RunTogether(*group, [&] {
    CheckpointReader reader(checkpoint);
    engine_->Load(reader);
  });
  engine_->Publish();
  resumed_iteration_ = saved_iteration_ = engine_->iteration();
  const int64_t first_skipped = engine_->next_sample();
  engine_->SkipTo(next_sample);
  RunOnFirst(*group, [&] {
    for (const CheckpointInfo& info : ListCheckpoints(config_.run_dir())) {
      if (info.iteration > engine_->iteration()) QuarantineCheckpoint(info.path);
    }
    reporter_->Rewound(engine_->iteration(), checkpoint);
    return std::string();
  });
  reporter_->Note(fmt::format("rewound to {} (iteration {}); samples {} to {} are passed over",
                              checkpoint, engine_->iteration(), first_skipped, next_sample - 1));
}

void Trainer::EvaluateAndReport() {
  const SampleReader sample = [this](int64_t index, std::span<int32_t> tokens) {
    valid_data_->Get(index, tokens);
  };
  reporter_->Evaluated(
      {engine_->iteration(), engine_->Evaluate(sample, config_.train().eval_iters())});
}

void Trainer::Save() {
  const Stopwatch watch;
  if (!saver_->room()) CollectSave();
  saver_->Save(engine_->Describe(), engine_->State());
  if (!config_.checkpoint().async()) CollectSave();
  reporter_->WaitedForSave(watch.ElapsedSeconds());
}

void Trainer::SaveAtEnd() {
  if (saved_iteration_ == engine_->iteration()) return;
  saver_->Save(engine_->Describe(), engine_->State());
  const CheckpointSaver::Outcome outcome = saver_->Collect();
  if (outcome.error) throw *outcome.error;
  saved_iteration_ = outcome.iteration;
  reporter_->Saved(outcome);
}

CheckpointSaver::Outcome Trainer::CollectSave() {
  CheckpointSaver::Outcome outcome = saver_->Collect();
  if (!outcome.error) saved_iteration_ = outcome.iteration;
  if (outcome.error) {
    // A run that is another process's by now is not trained on.
    RunOnFirst(mesh_->world(), [&] {
      fence_->Check();
      return std::string();
    });
  }
  reporter_->Saved(outcome);
  return outcome;
}

void Trainer::FinishSaves(const CollectiveError& reason) {
  while (saver_->pending() > 0) {
    try {
      CollectSave();
    } catch (const CollectiveError&) {  // NOLINT(bugprone-empty-catch): `reason` came first
    } catch (const std::exception&) {
      LOG(ERROR) << reason.what();
      throw;
    }
  }
}

bool Trainer::OutOfTime() const {
  const int64_t minutes = config_.train().exit_duration_in_mins();
  return minutes > 0 && since_start_.ElapsedSeconds() >= static_cast<double>(minutes) * 60;
}

}  // namespace cairn
