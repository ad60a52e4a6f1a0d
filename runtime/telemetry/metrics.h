#pragma once

#include <cstdint>
#include <optional>

namespace cairn {

/// What one training iteration is measured by; the same on every rank unless said otherwise.
struct StepMetrics {
  int64_t iteration = 0;          ///< counted from 1
  int64_t consumed_samples = 0;   ///< since the start of training, this iteration included
  double lm_loss = 0;             ///< mean over the tokens of the global batch, nats
  double grad_norm = 0;           ///< L2 over all parameters, before clipping
  double learning_rate = 0;       ///< used by this iteration
  double loss_scale = 1;          ///< used by this iteration; 1 unless fp16
  bool skipped = false;           ///< no update: a gradient was not finite
  double iteration_time_ms = 0;   ///< wall time, slowest rank
  double tokens_per_second = 0;   ///< of the whole job
  std::optional<double> mfu;      ///< model FLOP/s over peak FLOP/s, where the peak is known
  int64_t peak_memory_bytes = 0;  ///< largest rank
};

/// What one evaluation is measured by.
struct EvalMetrics {
  int64_t iteration = 0;          ///< the last iteration trained before it
  double lm_loss_validation = 0;  ///< mean over the tokens of the evaluation batches, nats
};

}  // namespace cairn
