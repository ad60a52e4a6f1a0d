#pragma once

#include <string>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/config/config.h"

namespace cairn {

/// How this process was started.
struct Program {
  int* argc = nullptr;
  char*** argv = nullptr;
  std::string name;        ///< as the user typed it
  std::string executable;  ///< absolute path
  ConfigSources sources;
};

/// Prints "cairn: error: ..." with what kind of error it is, on standard error.
void ReportError(const Error& error);

}  // namespace cairn
