#include "runtime/base/host.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "runtime/base/error.h"

namespace cairn {

std::string HostName() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) ThrowErrno(errno, "gethostname", "host");
  return name.data();
}

int HostCores() { return static_cast<int>(std::max<int64_t>(1, sysconf(_SC_NPROCESSORS_ONLN))); }

}  // namespace cairn
