#include "runtime/telemetry/progress_reporter.h"

#include <glog/logging.h>

namespace cairn {
namespace {

// Terminal control: to column 1 and clear the line; do not wrap a line that is too long; wrap
// again.
constexpr std::string_view kClearLine = "\r\x1b[2K";
constexpr std::string_view kWrapOff = "\x1b[?7l";
constexpr std::string_view kWrapOn = "\x1b[?7h";

}  // namespace

ProgressReporter::ProgressReporter(std::ostream& out, Options options)
    : out_(out), options_(options) {
  CHECK_GT(options_.log_interval, 0);
}

ProgressReporter::~ProgressReporter() {
  if (live_) out_ << '\n' << std::flush;
}

void ProgressReporter::Report(const StepMetrics& metrics, StepProgress progress) {
  progress.loss_z_score = trend_.Add(metrics.lm_loss);
  const bool stays = !any_reported_ || metrics.iteration % options_.log_interval == 0 ||
                     metrics.iteration == progress.total_iterations || metrics.skipped ||
                     progress.loss_z_score.value_or(0) >= kLossSpike;
  any_reported_ = true;
  if (stays) {
    Note(FormatStepLine(metrics, progress));
    return;
  }
  if (!options_.is_terminal) return;
  const Clock::time_point now = Clock::now();
  if (live_ && now - last_refresh_ < options_.refresh) return;
  last_refresh_ = now;
  live_ = true;
  out_ << kClearLine << kWrapOff << FormatStepLine(metrics, progress) << kWrapOn << std::flush;
}

void ProgressReporter::Note(std::string_view line) {
  if (live_) out_ << kClearLine;
  live_ = false;
  out_ << line << '\n' << std::flush;
}

}  // namespace cairn
