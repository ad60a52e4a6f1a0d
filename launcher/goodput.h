#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace cairn {

/// How a failure shows itself.
enum class FailureSign : uint8_t {
  kDeath,   ///< a process ends: its launcher sees it
  kHang,    ///< ranks wait for one that never comes: the watchdog sees it
  kSilent,  ///< wrong numbers: replica digests see it, and what was computed since is void
};

struct FailureCause {
  std::string_view name;
  double count;  ///< seen in the observed time; only proportions matter
  FailureSign sign;
};

/// The 419 unexpected interruptions in 54 days of Llama 3 405B's pre-training on 16,384 GPUs
/// ("The Llama 3 Herd of Models", 2024, table 5). The sign of each cause is our reading of it.
std::span<const FailureCause> LlamaFailureCauses();
inline constexpr double kLlamaFailures = 419;
inline constexpr double kLlamaRankDays = 16384.0 * 54;

/// A cluster, and what a failure costs on it. Times in seconds.
struct GoodputOptions {
  int64_t ranks = 16384;
  double days = 54;
  double failures_per_rank_day = kLlamaFailures / kLlamaRankDays;
  double save_interval = 120;  ///< training time between the starts of two saves
  double save_stall = 0.5;     ///< that a save holds the training up
  double save_duration = 30;   ///< from the start of a save to its commit
  double detect_death = 5;     ///< from a death to the end of all ranks
  double detect_hang = 30;     ///< from a hang to the end of all ranks
  double detect_silent = 600;  ///< between two comparisons of the replicas
  double restart = 60;         ///< from the end of all ranks to the first step
  uint64_t seed = 1234;
};

/// Where the time of a run went, in seconds; they add up to the whole.
struct GoodputResult {
  double useful = 0;     ///< training that was kept
  double lost = 0;       ///< training that was done again
  double stalled = 0;    ///< held up by saves
  double detecting = 0;  ///< failed, but not known yet
  double restarting = 0;
  int64_t failures = 0;

  double total() const { return useful + lost + stalled + detecting + restarting; }
  /// Effective training time over wall time.
  double goodput() const { return useful / total(); }
};

/// One simulated run, event by event: failures come as a Poisson process over all ranks, also
/// during a restart. The same options give the same result.
GoodputResult SimulateGoodput(const GoodputOptions& options);

}  // namespace cairn
