#pragma once

#include <string>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/config/config.h"

namespace cairn {

/// Whether a launcher started this process as another rank than the first: what needs one process
/// only is left to that.
bool IsSpareRank();

/// How this process was started.
struct Program {
  int* argc = nullptr;
  char*** argv = nullptr;
  std::string name;        ///< as the user typed it
  std::string executable;  ///< absolute path
  ConfigSources sources;
};

/// In a folder made by bundle.sh, Open MPI and its mpirun lie beside the program: says to this
/// process and those that it starts where their files are, which they would look for where they
/// were installed.
void UseBundledOpenMpi(const std::string& executable);

/// Prints "cairn: error: ..." with what kind of error it is, on standard error.
void ReportError(const Error& error);

}  // namespace cairn
