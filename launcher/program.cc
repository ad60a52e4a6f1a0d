#include "launcher/program.h"

#include <fmt/format.h>

#include <cstdio>

namespace cairn {

void ReportError(const Error& error) {
  // Formatted first and written with one call: lines of several ranks do not mix.
  const std::string line =
      fmt::format("cairn: {} error: {}\n", ErrorKindName(error.kind()), error.what());
  std::fputs(line.c_str(), stderr);
}

}  // namespace cairn
