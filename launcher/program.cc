#include "launcher/program.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace cairn {

bool IsSpareRank() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    const char* rank = std::getenv(variable);
    if (rank != nullptr) return std::string_view(rank) != "0";
  }
  return false;
}

void UseBundledOpenMpi(const std::string& executable) {
  namespace fs = std::filesystem;
  const fs::path bin = fs::path(executable).parent_path();
  const fs::path open_mpi = bin.parent_path() / "openmpi";
  std::error_code error;
  if (!fs::exists(open_mpi / "libexec" / "orted", error)) return;
  setenv("OPAL_PREFIX", open_mpi.c_str(), 1);
  setenv("OPAL_SYSCONFDIR", (open_mpi / "etc").c_str(), 1);
  setenv("PMIX_LIBDIR", (open_mpi / "pmix" / "lib").c_str(), 1);
  setenv("PMIX_DATAROOTDIR", (open_mpi / "pmix" / "share").c_str(), 1);
  const char* path = std::getenv("PATH");
  setenv("PATH", fmt::format("{}:{}", bin.string(), path != nullptr ? path : "").c_str(), 1);
}

void ReportError(const Error& error) {
  // Formatted first and written with one call: lines of several ranks do not mix.
  const std::string line =
      fmt::format("cairn: {} error: {}\n", ErrorKindName(error.kind()), error.what());
  std::fputs(line.c_str(), stderr);
}

}  // namespace cairn
