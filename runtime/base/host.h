#pragma once

#include <string>

namespace cairn {

/// This machine's name. An Error of kind kIo where it cannot be had.
std::string HostName();

/// Processors that are online on this machine, whatever this process is bound to.
int HostCores();

}  // namespace cairn
