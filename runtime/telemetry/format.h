#pragma once

#include <cstdint>
#include <string>

namespace cairn {

/// "512 B", "1.2 GiB": three significant digits at most, in powers of 1024.
std::string FormatBytes(int64_t bytes);

/// "0.4s", "14s", "1m14s", "2h05m", "3d04h"; "?" if negative or not finite.
std::string FormatDuration(double seconds);

/// "4,968": groups of three digits.
std::string FormatThousands(int64_t value);

}  // namespace cairn
