#include "runtime/base/error.h"

#include <algorithm>
#include <system_error>

namespace cairn {
namespace {

// Names out of hostile files end up in messages; they must not steer the terminal, nor forge a
// line.
std::string OneLine(std::string text) {
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; };
  if (std::ranges::none_of(text, is_control)) return text;
  std::string line;
  for (const char c : text) {
    if (is_control(c)) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return line;
}

}  // namespace

const char* ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kConfig:
      return "config";
    case ErrorKind::kData:
      return "data";
    case ErrorKind::kCheckpoint:
      return "checkpoint";
    case ErrorKind::kIo:
      return "io";
    case ErrorKind::kCommunication:
      return "communication";
    case ErrorKind::kDevice:
      return "device";
    case ErrorKind::kOutOfMemory:
      return "out of memory";
    case ErrorKind::kNumeric:
      return "numeric";
    case ErrorKind::kInterrupted:
      return "interrupted";
    case ErrorKind::kInternal:
      return "internal";
  }
  return "internal";
}

Error::Error(ErrorKind kind, std::string where, std::string message)
    : kind_(kind),
      where_(OneLine(std::move(where))),
      message_(OneLine(std::move(message))),
      what_(where_.empty() ? message_ : where_ + ": " + message_) {}

ExitStatus Error::exit_status() const {
  switch (kind_) {
    case ErrorKind::kUsage:
    case ErrorKind::kConfig:
      return kExitUsage;
    case ErrorKind::kInterrupted:
      return kExitInterrupted;
    default:
      return kExitRunFailed;
  }
}

void ThrowErrno(int errno_value, const char* call, const std::string& path) {
  // std::system_category's text is thread-safe, strerror's is not.
  throw Error(ErrorKind::kIo, path,
              fmt::format("{} failed: {}", call,
                          std::error_code(errno_value, std::system_category()).message()));
}

}  // namespace cairn
