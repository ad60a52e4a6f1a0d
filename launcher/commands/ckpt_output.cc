#include "launcher/commands/ckpt_output.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

constexpr size_t kMaxDamageLines = 100;

}  // namespace

void PrintText(std::string_view text) {
  // Flushed and checked: a full disk or a closed pipe must not swallow what was asked for.
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    ThrowErrno(errno, "write", "standard output");
  }
}

void PrintJson(const Json& json) {
  PrintText(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Table::Table(std::vector<std::string> heads) {
  for (std::string& head : heads) {
    right_.push_back(head.starts_with('>'));
    if (right_.back()) head.erase(0, 1);
  }
  rows_.push_back(std::move(heads));
}

void Table::AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string Table::Render() const {
  std::vector<size_t> widths(right_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < widths.size(); ++i) {
      if (i > 0) line += "  ";
      line += right_[i] ? fmt::format("{:>{}}", row[i], widths[i])
                        : fmt::format("{:<{}}", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string HumanBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string UtcTime(int64_t unix_seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(unix_seconds)));
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

Json DamagesJson(const std::vector<Damage>& damages) {
  Json list = Json::array();
  for (const Damage& damage : damages) {
    list.push_back({{"file", damage.file},
                    {"tensor", damage.tensor},
                    {"kind", damage.kind},
                    {"byte_begin", damage.byte_begin},
                    {"byte_end", damage.byte_end},
                    {"message", damage.message}});
  }
  return list;
}

std::string DamagesText(const std::vector<Damage>& damages) {
  std::string text;
  for (size_t i = 0; i < std::min(damages.size(), kMaxDamageLines); ++i) {
    text += fmt::format("  {}\n", Describe(damages[i]));
  }
  if (damages.size() > kMaxDamageLines) {
    text += fmt::format("  and {} more; --json lists all\n", damages.size() - kMaxDamageLines);
  }
  return text;
}

std::string ResolveAndReport(const std::string& path) {
  return ResolveCheckpoint(path, [](const std::string& skipped, const std::string& reason) {
    fmt::print(stderr, "passed over {}: {}\n", skipped, reason);
  });
}

}  // namespace cairn
