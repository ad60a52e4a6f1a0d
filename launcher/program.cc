#include "launcher/program.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace cairn {

bool IsSpareRank() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    const char* rank = std::getenv(variable);
    if (rank != nullptr) return std::string_view(rank) != "0";
  }
  return false;
}

void ReportError(const Error& error) {
  // Formatted first and written with one call: lines of several ranks do not mix.
  const std::string line =
      fmt::format("cairn: {} error: {}\n", ErrorKindName(error.kind()), error.what());
  std::fputs(line.c_str(), stderr);
}

}  // namespace cairn
