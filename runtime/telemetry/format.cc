#include "runtime/telemetry/format.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace cairn {

std::string FormatBytes(int64_t bytes) {
  constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  // 999.5 would print with four digits.
  while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const int decimals = unit == 0 || std::abs(value) >= 99.95 ? 0 : 1;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string FormatDuration(double seconds) {
  constexpr double kMaxSeconds = 1e15;
  if (!(seconds >= 0 && seconds < kMaxSeconds)) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const auto total = static_cast<int64_t>(std::llround(seconds));
  constexpr int64_t kMinute = 60;
  constexpr int64_t kHour = 60 * kMinute;
  constexpr int64_t kDay = 24 * kHour;
  if (total < kMinute) return fmt::format("{}s", total);
  if (total < kHour) return fmt::format("{}m{:02}s", total / kMinute, total % kMinute);
  if (total < kDay) return fmt::format("{}h{:02}m", total / kHour, total % kHour / kMinute);
  return fmt::format("{}d{:02}h", total / kDay, total % kDay / kHour);
}

std::string FormatThousands(int64_t value) {
  std::string digits = fmt::format("{}", value);
  const size_t sign = value < 0 ? 1 : 0;
  for (size_t end = digits.size(); end > sign + 3;) {
    end -= 3;
    digits.insert(end, 1, ',');
  }
  return digits;
}

}  // namespace cairn
