#include "launcher/run_reporter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "launcher/launch/slurm.h"
#include "launcher/mfu.h"
#include "parallel/agreement.h"
#include "runtime/base/error.h"
#include "runtime/base/shell.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
RunReporter::RunReporter(const TrainConfig& config, Communicator& world, Device& device,
                         int64_t iteration)
    : config_(config), world_(&world), device_(&device), gpu_model_(GpuModel(device)) {
  summary_.total_iterations = config.train().train_iters();
  summary_.last_iteration = iteration;
  if (!first()) return;
  OpenFiles(iteration);
  ProgressReporter::Options options;
  options.is_terminal = isatty(STDERR_FILENO) == 1;
  options.log_interval = config.log().log_interval();
  progress_ = std::make_unique<ProgressReporter>(std::cerr, options);
}

void RunReporter::OpenFiles(int64_t iteration) {
  metrics_log_ = std::make_unique<MetricsLog>(
      MetricsLog::OpenForResume(JoinPath(config_.run_dir(), "metrics.jsonl"), iteration));
  if (config_.log().tensorboard() && iteration < config_.train().train_iters()) {
    tensorboard_ = std::make_unique<TensorBoardWriter>(JoinPath(config_.run_dir(), "tensorboard"),
                                                       iteration + 1);
  }
}

void RunReporter::Rewound(int64_t iteration, const std::string& checkpoint) {
  summary_.last_checkpoint = checkpoint;
  OpenFiles(iteration);
}

void RunReporter::BeginStep() {
  step_watch_.Restart();
  comm_wait_before_ns_ = world_->wait_ns();
}

void RunReporter::EndStep(TrainEngine& engine, const TrainEngine::StepOutcome& outcome) {
  const double seconds = step_watch_.ElapsedSeconds();
  summary_.iterations += 1;
  summary_.last_iteration = engine.iteration();
  summary_.tokens += config_.train().global_batch_size() * config_.model().seq_length();
  summary_.last_loss = outcome.lm_loss;
  if (!summary_.first_loss) summary_.first_loss = outcome.lm_loss;
  if (outcome.skipped) ++summary_.skipped_steps;

  struct Measured {
    double seconds;
    double comm_wait;
    double data_wait;
    int64_t peak_memory;
  };
  const Measured own = {seconds,
                        static_cast<double>(world_->wait_ns() - comm_wait_before_ns_) * 1e-9,
                        engine.data_wait().TakeSeconds(), device_->allocator().stats().peak_total};
  // Alike on every rank. The steps between are shown as rank 0 saw them.
  const bool logged = outcome.skipped || engine.iteration() % config_.log().log_interval() == 0 ||
                      engine.iteration() == config_.train().train_iters();
  const std::vector<Measured> ranks =
      logged ? GatherValues(*world_, own) : std::vector<Measured>{own};
  if (!first()) return;

  StepMetrics metrics;
  metrics.iteration = engine.iteration();
  metrics.consumed_samples = engine.consumed_samples();
  metrics.lm_loss = outcome.lm_loss;
  metrics.grad_norm = outcome.grad_norm;
  metrics.learning_rate = outcome.learning_rate;
  metrics.loss_scale = outcome.loss_scale;
  metrics.skipped = outcome.skipped;
  StepProgress progress;
  double slowest = 0;
  for (const Measured& rank : ranks) {
    slowest = std::max(slowest, rank.seconds);
    metrics.peak_memory_bytes = std::max(metrics.peak_memory_bytes, rank.peak_memory);
    progress.data_wait_fraction =
        std::max(progress.data_wait_fraction, rank.data_wait / rank.seconds);
    progress.comm_wait_fraction +=
        std::min(1.0, rank.comm_wait / rank.seconds) / static_cast<double>(ranks.size());
  }
  metrics.iteration_time_ms = slowest * 1e3;
  metrics.tokens_per_second =
      static_cast<double>(config_.train().global_batch_size() * config_.model().seq_length()) /
      slowest;
  metrics.mfu =
      ModelFlopsUtilization(config_, metrics.tokens_per_second, world_->size(), gpu_model_);
  progress.total_iterations = config_.train().train_iters();
  const double per_iteration =
      since_start_.ElapsedSeconds() / static_cast<double>(summary_.iterations);
  progress.remaining_seconds =
      per_iteration * static_cast<double>(config_.train().train_iters() - engine.iteration());
  if (logged) WriteFiles(metrics);
  progress_->Report(metrics, progress);
}

template <typename Metrics>
void RunReporter::WriteFiles(const Metrics& metrics) {
  try {
    metrics_log_->Write(metrics);
    if (tensorboard_) tensorboard_->Write(metrics);
    writing_failed_ = false;
  } catch (const Error& error) {
    // A full disk takes lines of a log, not the training.
    if (!writing_failed_)
      Note(fmt::format("metrics not written, training goes on: {}", error.what()));
    writing_failed_ = true;
  }
}

void RunReporter::Evaluated(const EvalMetrics& metrics) {
  summary_.validation_loss = metrics.lm_loss_validation;
  if (!first()) return;
  WriteFiles(metrics);
  Note(fmt::format("iter {} | validation loss {:.4f}", metrics.iteration,
                   metrics.lm_loss_validation));
}

void RunReporter::Saved(const CheckpointSaver::Outcome& outcome) {
  if (outcome.error) {
    return Note(fmt::format("checkpoint of iteration {} not saved, training goes on: {}",
                            outcome.iteration, outcome.error->what()));
  }
  summary_.last_checkpoint = outcome.directory;
  summary_.saves += 1;
  summary_.saved_bytes += static_cast<int64_t>(outcome.bytes);
  summary_.saving_seconds += outcome.seconds;
  Note("saved " + outcome.directory);
  if (!outcome.retention_problem.empty()) {
    Note(fmt::format("older checkpoints not removed: {}", outcome.retention_problem));
  }
}

void RunReporter::Note(std::string_view line) {
  if (progress_) progress_->Note(line);
}

void RunReporter::Summarize(TrainEngine& engine, const std::string& program) {
  struct Measured {
    MemoryStats memory;
    double save_wait_seconds;
  };
  const std::vector<Measured> ranks =
      GatherValues(*world_, Measured{device_->allocator().stats(), save_wait_seconds_});
  if (!first()) return;
  for (int i = 0; i < kNumMemoryCategories; ++i) {
    int64_t peak = 0;
    for (const Measured& rank : ranks) peak = std::max(peak, rank.memory.peak[i]);
    summary_.peak_memory.emplace_back(MemoryCategoryName(static_cast<MemoryCategory>(i)), peak);
  }
  for (const Measured& rank : ranks) {
    summary_.save_wait_seconds = std::max(summary_.save_wait_seconds, rank.save_wait_seconds);
  }
  summary_.elapsed_seconds = since_start_.ElapsedSeconds();
  summary_.last_iteration = engine.iteration();
  if (!summary_.last_checkpoint.empty()) summary_.resume_command = ResumeCommand(engine, program);
  progress_.reset();
  std::cerr << FormatRunSummary(summary_);
}

std::string RunReporter::ResumeCommand(const TrainEngine& engine,
                                       const std::string& program) const {
  const bool finished = engine.iteration() >= config_.train().train_iters();
  const std::string script = JobScriptPath(config_.run_dir());
  if (std::getenv("SLURM_JOB_ID") != nullptr && std::filesystem::exists(script)) {
    // The script runs the config that it was written with, which is done.
    return finished ? "" : ShellLine({"sbatch", script});
  }
  const std::string launch =
      world_->size() > 1 ? fmt::format("mpirun --oversubscribe -n {} ", world_->size()) : "";
  std::string command =
      launch + ShellLine({program, "train", JoinPath(config_.run_dir(), "config.textproto"),
                          "checkpoint.load=auto"});
  if (finished) command += fmt::format(" train.train_iters={}", 2 * config_.train().train_iters());
  return command;
}

}  // namespace cairn
