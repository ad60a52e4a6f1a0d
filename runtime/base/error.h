#pragma once

#include <fmt/format.h>

#include <exception>
#include <string>
#include <utility>

namespace cairn {

/// What went wrong, as far as the reader must act on it.
enum class ErrorKind {
  kUsage,          ///< the command line is wrong
  kConfig,         ///< a config value is unknown, malformed, or does not fit
  kData,           ///< a dataset or tokenizer is missing, truncated or damaged
  kCheckpoint,     ///< a checkpoint is missing, damaged, or of another model
  kIo,             ///< the operating system refused a file operation
  kCommunication,  ///< MPI, NCCL, or a peer rank failed
  kDevice,         ///< a device is absent or an operation on it failed
  kOutOfMemory,    ///< an allocation was refused
  kNumeric,        ///< training left the range of numbers, or its loss left its trend
  kInterrupted,    ///< stopped on request after a clean save
  kInternal,       ///< a broken promise of Cairn's own
};

/// The lower-case word printed for `kind`, e.g. "config".
const char* ErrorKindName(ErrorKind kind);

/// Exit statuses of the program (`cairn --help` lists them).
enum ExitStatus : int {
  kExitOk = 0,
  kExitCheckFailed = 1,
  kExitUsage = 2,
  kExitRunFailed = 3,
  kExitInterrupted = 4,
};

/// The one exception type: thrown where the mistake is found, reported once, in `main`.
/// `where` names the place a user can go to: "file:line:column", a field, a tensor, a byte range.
/// `message` says what is wrong and what would fit. Both become one line: a control character in
/// them is shown as \xNN.
class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string where, std::string message);

  ErrorKind kind() const { return kind_; }
  const std::string& where() const { return where_; }
  const std::string& message() const { return message_; }
  const char* what() const noexcept override { return what_.c_str(); }  ///< "where: message"
  ExitStatus exit_status() const;

 private:
  ErrorKind kind_;
  std::string where_;
  std::string message_;
  std::string what_;
};

/// Throws an `Error` whose message is formatted by fmt.
template <typename... Args>
[[noreturn]] void Throw(ErrorKind kind, std::string where, fmt::format_string<Args...> format,
                        Args&&... args) {
  throw Error(kind, std::move(where), fmt::format(format, std::forward<Args>(args)...));
}

/// Throws kIo with the text of `errno_value`; `call` is the operation, `path` its object.
[[noreturn]] void ThrowErrno(int errno_value, const char* call, const std::string& path);

}  // namespace cairn
