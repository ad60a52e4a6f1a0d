#include "runtime/telemetry/run_summary.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <string_view>

#include "runtime/telemetry/format.h"

namespace cairn {

std::string FormatRunSummary(const RunSummary& summary) {
  std::string text =
      summary.last_iteration >= summary.total_iterations
          ? fmt::format("Finished all {} iterations\n", FormatThousands(summary.total_iterations))
          : fmt::format("Stopped after iteration {} of {}\n",
                        FormatThousands(summary.last_iteration),
                        FormatThousands(summary.total_iterations));
  const auto add = [&](std::string_view label, std::string_view value) {
    fmt::format_to(std::back_inserter(text), "  {:<12} {}\n", label, value);
  };
  if (summary.first_loss.has_value() && summary.last_loss.has_value()) {
    std::string loss = fmt::format("{:.4f} -> {:.4f}", *summary.first_loss, *summary.last_loss);
    if (summary.validation_loss.has_value()) {
      loss += fmt::format(", validation {:.4f}", *summary.validation_loss);
    }
    add("loss", loss);
  }
  std::string iterations = fmt::format("{} in {}", FormatThousands(summary.iterations),
                                       FormatDuration(summary.elapsed_seconds));
  if (summary.skipped_steps > 0) {
    iterations += fmt::format(", {} skipped", FormatThousands(summary.skipped_steps));
  }
  add("iterations", iterations);
  std::string tokens = FormatThousands(summary.tokens);
  if (summary.elapsed_seconds > 0) {
    const double rate = static_cast<double>(summary.tokens) / summary.elapsed_seconds;
    tokens += fmt::format(", {} per second", FormatThousands(std::llround(rate)));
  }
  add("tokens", tokens);
  if (!summary.peak_memory.empty()) {
    std::string memory;
    for (const auto& [category, bytes] : summary.peak_memory) {
      if (!memory.empty()) memory += ", ";
      memory += fmt::format("{} {}", category, FormatBytes(bytes));
    }
    add("peak memory", memory);
  }
  if (summary.saves > 0 && summary.saving_seconds > 0 && summary.elapsed_seconds > 0) {
    const double rate = static_cast<double>(summary.saved_bytes) / summary.saving_seconds;
    add("saves", fmt::format("{} of {} at {}/s, training waited {:.2f}% of the time",
                             FormatThousands(summary.saves),
                             FormatBytes(summary.saved_bytes / summary.saves),
                             FormatBytes(std::llround(rate)),
                             100 * summary.save_wait_seconds / summary.elapsed_seconds));
  }
  if (!summary.last_checkpoint.empty()) add("checkpoint", summary.last_checkpoint);
  if (!summary.resume_command.empty()) add("to go on", summary.resume_command);
  return text;
}

}  // namespace cairn
