#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/checkpoint/verify.h"

namespace cairn {

using Json = nlohmann::ordered_json;

/// Writes to standard output; an Error of kind kIo if it cannot.
void PrintText(std::string_view text);

/// Writes indented JSON and a newline to standard output.
void PrintJson(const Json& json);

/// A table with aligned columns.
class Table {
 public:
  /// A head that begins with '>' stands, like its cells, on the right.
  explicit Table(std::vector<std::string> heads);
  /// One cell for each head.
  void AddRow(std::vector<std::string> cells);
  std::string Render() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

/// "1.5 GiB"; whole bytes below 1 KiB.
std::string HumanBytes(uint64_t bytes);

/// "2024-05-01T12:00:00Z".
std::string UtcTime(int64_t unix_seconds);

/// "[6,4]".
std::string ShapeText(const std::vector<int64_t>& shape);

/// Damages as an array of objects.
Json DamagesJson(const std::vector<Damage>& damages);

/// A line for each, the first hundred at most.
std::string DamagesText(const std::vector<Damage>& damages);

/// The step folder that `path` names (see ResolveCheckpoint); says on standard error which newer
/// ones were passed over.
std::string ResolveAndReport(const std::string& path);

}  // namespace cairn
