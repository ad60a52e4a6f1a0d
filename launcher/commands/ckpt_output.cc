#include "launcher/commands/ckpt_output.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

constexpr size_t kMaxDamageLines = 100;
constexpr size_t kMaxAlike = 3;  // of these, damages of one file with one message

// The terminal's numbers for each Style.
constexpr std::array<const char*, 5> kColours = {"0", "1", "32", "33", "31"};

bool TakesColour() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string_view(value == nullptr ? "" : value);
  };
  return ::isatty(STDOUT_FILENO) != 0 && variable("NO_COLOR").empty() && variable("TERM") != "dumb";
}

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

std::string Styled(std::string text, Style style) {
  if (style == Style::kPlain || !TakesColour()) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", kColours.at(static_cast<size_t>(style)), text);
}

Table::Table(const std::vector<std::string>& heads) {
  rows_.emplace_back();
  for (const std::string& head : heads) {
    right_.push_back(head.starts_with('>'));
    rows_.back().emplace_back(right_.back() ? head.substr(1) : head, Style::kHead);
  }
}

void Table::AddRow(std::vector<Cell> cells) { rows_.push_back(std::move(cells)); }

std::string Table::Render() const {
  std::vector<size_t> widths(right_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < widths.size(); ++i) {
      if (i > 0) line += "  ";
      const std::string space(widths[i] - row[i].text.size(), ' ');
      const std::string cell = Styled(row[i].text, row[i].style);
      line += right_[i] ? space + cell : cell + space;
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

std::string HumanAge(int64_t seconds) {
  seconds = std::max<int64_t>(seconds, 0);  // a clock may have been set back
  static constexpr auto kUnits =
      std::to_array<std::pair<int64_t, char>>({{86400, 'd'}, {3600, 'h'}, {60, 'm'}});
  for (const auto& [length, unit] : kUnits) {
    if (seconds >= 2 * length) return fmt::format("{}{}", seconds / length, unit);
  }
  return fmt::format("{}s", seconds);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

Json ValueJson(const ElementValue& value) {
  return std::visit(
      [](auto v) -> Json {
        if constexpr (std::is_floating_point_v<decltype(v)>) {
          if (std::isnan(v)) return "NaN";
          if (std::isinf(v)) return v > 0 ? "Infinity" : "-Infinity";
        }
        return v;
      },
      value);
}

std::string RangeText(const std::vector<int64_t>& offset, const std::vector<int64_t>& extent) {
  std::string text;
  for (size_t d = 0; d < offset.size(); ++d) {
    text += fmt::format("{}{}:{}", d == 0 ? "" : ",", offset[d], offset[d] + extent[d]);
  }
  return "[" + text + "]";
}

Json TensorJson(const TensorEntry& tensor) {
  return {{"name", tensor.name},
          {"kind", tensor.kind},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape}};
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
  size_t lines = 0;
  for (size_t i = 0; i < damages.size() && lines < kMaxDamageLines;) {
    // A lost file has the same to say of each of its tensors.
    size_t end = i + 1;
    while (end < damages.size() && damages[end].file == damages[i].file &&
           damages[end].message == damages[i].message) {
      ++end;
    }
    const size_t shown = std::min(end, i + kMaxAlike);
    for (size_t line = i; line < shown; ++line, ++lines) {
      text += fmt::format("  {}\n", Describe(damages[line]));
    }
    if (shown < end) {
      text += fmt::format("  {}: and {} more of its tensors\n", damages[i].file, end - shown);
    }
    i = end;
  }
  if (lines >= kMaxDamageLines) text += "  and more; --json lists all\n";
  return text;
}

std::string ResolveAndReport(const std::string& path) {
  return ResolveCheckpoint(path, [](const std::string& skipped, const std::string& reason) {
    fmt::print(stderr, "passed over {}: {}\n", skipped, reason);
  });
}

const TensorEntry& FindTensor(const CheckpointReader& reader, const std::string& name,
                              const std::string& kind) {
  const TensorEntry* const found = reader.Find(name, kind);
  if (found != nullptr) return *found;
  std::vector<std::string> kinds;
  for (const TensorEntry& tensor : reader.manifest().tensors) {
    if (tensor.name == name) kinds.push_back(tensor.kind);
  }
  if (kinds.empty()) {
    Throw(ErrorKind::kUsage, "TENSOR", "{} has no tensor \"{}\"; `cairn ckpt tensors` lists them",
          reader.directory(), name);
  }
  Throw(ErrorKind::kUsage, "--kind", "\"{}\" has no kind {}, but {}", name, kind,
        fmt::join(kinds, ", "));
}

}  // namespace cairn
