#include "runtime/telemetry/step_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "runtime/telemetry/format.h"

namespace cairn {
namespace {

std::string FormatMilliseconds(double ms) {
  if (!std::isfinite(ms) || ms >= 9999.5) return FormatDuration(ms / 1000);
  return fmt::format("{:.{}f} ms", ms, ms < 9.95 ? 1 : 0);
}

// A NaN's sign would be printed, and says nothing.
double WithoutNanSign(double value) { return std::isnan(value) ? NAN : value; }

std::string FormatNorm(double norm) {
  return std::abs(norm) < 1000 ? fmt::format("{:.3f}", norm) : fmt::format("{:.3g}", norm);
}

std::string FormatRate(double per_second) {
  constexpr double kExact = 9e15;  // whole numbers up to here fit a double
  if (!(per_second >= 0 && per_second < kExact)) return "?";
  return FormatThousands(std::llround(per_second));
}

}  // namespace

std::string FormatStepLine(const StepMetrics& metrics, const StepProgress& progress) {
  constexpr size_t kMinWidth = 5;
  const std::string total = fmt::format("{}", progress.total_iterations);
  std::string line;
  const auto out = std::back_inserter(line);
  fmt::format_to(out, "iter {:>{}}/{} | loss {:.4f}", metrics.iteration,
                 std::max(total.size(), kMinWidth), total, WithoutNanSign(metrics.lm_loss));
  if (progress.loss_z_score.value_or(0) >= kLossSpike) {
    fmt::format_to(out, " (z {:+.1f})", *progress.loss_z_score);
  }
  fmt::format_to(out, " | grad norm {} | lr {:.1e}", FormatNorm(WithoutNanSign(metrics.grad_norm)),
                 metrics.learning_rate);
  if (metrics.loss_scale != 1) fmt::format_to(out, " | scale {:g}", metrics.loss_scale);
  fmt::format_to(out, " | {} | {} tok/s", FormatMilliseconds(metrics.iteration_time_ms),
                 FormatRate(metrics.tokens_per_second));
  if (metrics.mfu.has_value()) fmt::format_to(out, " | mfu {:.1f}%", *metrics.mfu * 100);
  if (metrics.peak_memory_bytes > 0) {
    fmt::format_to(out, " | mem {}", FormatBytes(metrics.peak_memory_bytes));
  }
  fmt::format_to(out, " | data {:.1f}% | comm {:.1f}%", progress.data_wait_fraction * 100,
                 progress.comm_wait_fraction * 100);
  if (progress.remaining_seconds.has_value()) {
    fmt::format_to(out, " | left {}", FormatDuration(*progress.remaining_seconds));
  }
  if (metrics.skipped) line += " | SKIPPED: no update";
  return line;
}

std::optional<double> LossTrend::ZScore(double loss) const {
  constexpr int64_t kWarmup = 20;
  if (!std::isfinite(loss) || state_.count < kWarmup || state_.variance <= 0) return std::nullopt;
  return (loss - state_.mean) / std::sqrt(state_.variance);
}

std::optional<double> LossTrend::Add(double loss) {
  constexpr double kWindow = 50;
  if (!std::isfinite(loss)) return std::nullopt;
  const std::optional<double> z_score = ZScore(loss);
  const double delta = loss - state_.mean;
  // A plain average at first, a decaying one once the window is full.
  ++state_.count;
  const double weight = 1 / std::min(static_cast<double>(state_.count), kWindow);
  state_.mean += weight * delta;
  state_.variance = (1 - weight) * (state_.variance + weight * delta * delta);
  return z_score;
}

}  // namespace cairn
