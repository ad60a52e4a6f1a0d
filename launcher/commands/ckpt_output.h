#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/element.h"
#include "runtime/checkpoint/verify.h"

namespace cairn {

using Json = nlohmann::ordered_json;

/// Writes to standard output; an Error of kind kIo if it cannot.
void PrintText(std::string_view text);

/// Writes indented JSON and a newline to standard output.
void PrintJson(const Json& json);

/// How a piece of text looks where standard output is a terminal, unless NO_COLOR is set or TERM is
/// "dumb"; elsewhere all text is plain.
enum class Style { kPlain, kHead, kGood, kWarning, kBad };

/// `text` in that style.
std::string Styled(std::string text, Style style);

/// A cell of a table.
struct Cell {
  // NOLINTNEXTLINE(google-explicit-constructor): most cells are plain text
  Cell(std::string text, Style style = Style::kPlain) : text(std::move(text)), style(style) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Cell(const char* text) : text(text) {}

  std::string text;
  Style style = Style::kPlain;
};

/// A table with aligned columns.
class Table {
 public:
  /// A head that begins with '>' stands, like its cells, on the right.
  explicit Table(const std::vector<std::string>& heads);
  /// One cell for each head.
  void AddRow(std::vector<Cell> cells);
  std::string Render() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<Cell>> rows_;
};

/// "1.5 GiB"; whole bytes below 1 KiB.
std::string HumanBytes(uint64_t bytes);

/// "2024-05-01T12:00:00Z".
std::string UtcTime(int64_t unix_seconds);

/// "90s", "5m", "3h", "12d": whole units, the largest of which there are two; never below 0.
std::string HumanAge(int64_t seconds);

/// "[6,4]"; also for indices.
std::string ShapeText(const std::vector<int64_t>& shape);

/// "[0:6,2:4]", as a slice is written.
std::string RangeText(const std::vector<int64_t>& offset, const std::vector<int64_t>& extent);

/// As JSON, which has no infinities: they and NaN are strings there.
Json ValueJson(const ElementValue& value);

/// {"name", "kind", "dtype", "shape"}.
Json TensorJson(const TensorEntry& tensor);

/// Damages as an array of objects.
Json DamagesJson(const std::vector<Damage>& damages);

/// A line for each, the first hundred at most.
std::string DamagesText(const std::vector<Damage>& damages);

/// The step folder that `path` names (see ResolveCheckpoint); says on standard error which newer
/// ones were passed over.
std::string ResolveAndReport(const std::string& path);

/// The tensor that a user names; if there is none, an Error of kind kUsage that says what there is.
const TensorEntry& FindTensor(const CheckpointReader& reader, const std::string& name,
                              const std::string& kind);

}  // namespace cairn
