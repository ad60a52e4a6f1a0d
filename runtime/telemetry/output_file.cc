#include "runtime/telemetry/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {
namespace {

int OpenFlags(OutputFile::Mode mode) {
  constexpr int kAlways = O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK;  // never wait for a pipe
  switch (mode) {
    case OutputFile::Mode::kAppend:
      return kAlways | O_APPEND;
    case OutputFile::Mode::kReplace:
      return kAlways | O_TRUNC;
    case OutputFile::Mode::kNew:
      return kAlways | O_EXCL;
  }
  return kAlways | O_EXCL;
}

}  // namespace

OutputFile::OutputFile(std::string path, Mode mode) : path_(std::move(path)) {
  do {
    descriptor_ = ::open(path_.c_str(), OpenFlags(mode), 0644);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) ThrowErrno(errno, "open", path_);
  struct stat status {};
  const int failure = ::fstat(descriptor_, &status) != 0 ? errno : 0;
  if (failure != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    if (failure != 0) ThrowErrno(failure, "fstat", path_);
    Throw(ErrorKind::kIo, path_, "is not a regular file");
  }
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::Append(std::string_view data) {
  const off_t begin = ::lseek(descriptor_, 0, SEEK_END);
  if (begin < 0) ThrowErrno(errno, "lseek", path_);
  while (!data.empty()) {
    const ssize_t written = ::write(descriptor_, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int failure = errno;
      // Best effort: the write's own error is the one to report.
      [[maybe_unused]] const int undone = ::ftruncate(descriptor_, begin);
      ThrowErrno(failure, "write", path_);
    }
    data.remove_prefix(static_cast<size_t>(written));
  }
}

void OutputFile::WriteAt(int64_t offset, std::string_view data) {
  while (!data.empty()) {
    const ssize_t written = ::pwrite(descriptor_, data.data(), data.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) ThrowErrno(errno, "pwrite", path_);
    data.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
}

void OutputFile::Sync() {
  if (::fsync(descriptor_) != 0) ThrowErrno(errno, "fsync", path_);
}

}  // namespace cairn
