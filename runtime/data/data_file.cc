#include "runtime/data/data_file.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
// Linux moves no more than this in one call.
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

// Brings the entry of `path` in its folder to disk.
void SyncParentFolder(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? std::string(".") : parent.string();
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) ThrowErrno(errno, "open", folder);
  const int sync_errno = fsync(descriptor) == 0 ? 0 : errno;
  const int close_errno = close(descriptor) == 0 ? 0 : errno;
  // Some network file systems have no fsync for folders and say EINVAL: the rename is still atomic.
  if (sync_errno != 0 && sync_errno != EINVAL) ThrowErrno(sync_errno, "fsync", folder);
  if (close_errno != 0) ThrowErrno(close_errno, "close", folder);
}

}  // namespace

DataFile::DataFile(std::string path) : path_(std::move(path)) {
  // O_NONBLOCK: a FIFO of that name must not hang the program; for a regular file it means nothing.
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    if (errno == ENOENT || errno == ENOTDIR) Throw(ErrorKind::kData, path_, "no such file");
    ThrowErrno(errno, "open", path_);
  }
  struct stat status = {};
  if (fstat(descriptor_, &status) != 0) {
    const int stat_errno = errno;
    close(descriptor_);
    ThrowErrno(stat_errno, "fstat", path_);
  }
  if (!S_ISREG(status.st_mode)) {
    close(descriptor_);
    Throw(ErrorKind::kData, path_, "not a regular file");
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

DataFile::~DataFile() { close(descriptor_); }

void DataFile::ReadAt(uint64_t offset, void* to, size_t bytes) const {
  char* cursor = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got =
        pread(descriptor_, cursor, std::min(bytes, kMaxTransferBytes), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      ThrowErrno(errno, "pread", path_);
    }
    if (got == 0) {
      Throw(ErrorKind::kData, fmt::format("{}: byte {}", path_, offset),
            "the file ends here, {} bytes early; it had {} bytes when it was opened", bytes, size_);
    }
    cursor += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
}

std::string ReadDataFile(const std::string& path, uint64_t max_bytes) {
  const DataFile file(path);
  if (file.size() > max_bytes) {
    Throw(ErrorKind::kData, path, "the file has {} bytes; a file of this kind has {} at most",
          file.size(), max_bytes);
  }
  std::string content(file.size(), '\0');
  file.ReadAt(0, content.data(), content.size());
  return content;
}

AtomicDataFile::AtomicDataFile(std::string path)
    : path_(std::move(path)), temporary_path_(path_ + ".tmp") {
  buffer_.reserve(kBufferBytes);
  descriptor_ = open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) ThrowErrno(errno, "open", temporary_path_);
}

AtomicDataFile::~AtomicDataFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
}

void AtomicDataFile::Append(const void* from, size_t bytes) {
  CHECK_GE(descriptor_, 0) << "append after sync: " << path_;
  const char* cursor = static_cast<const char*>(from);
  size_ += bytes;
  while (bytes > 0) {
    const size_t part = std::min(bytes, kBufferBytes - buffer_.size());
    buffer_.append(cursor, part);
    cursor += part;
    bytes -= part;
    if (buffer_.size() == kBufferBytes) Flush();
  }
}

void AtomicDataFile::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t put = write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (put < 0) {
      if (errno == EINTR) continue;
      ThrowErrno(errno, "write", temporary_path_);
    }
    done += static_cast<size_t>(put);
  }
  buffer_.clear();
}

void AtomicDataFile::Sync() {
  CHECK_GE(descriptor_, 0) << "synced twice: " << path_;
  Flush();
  if (fsync(descriptor_) != 0) ThrowErrno(errno, "fsync", temporary_path_);
  const int closed = close(std::exchange(descriptor_, -1));
  if (closed != 0) ThrowErrno(errno, "close", temporary_path_);
}

void AtomicDataFile::Publish() {
  CHECK_LT(descriptor_, 0) << "published before sync: " << path_;
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) ThrowErrno(errno, "rename", path_);
  temporary_path_.clear();
  SyncParentFolder(path_);
}

void RemoveFileIfPresent(const std::string& path) {
  if (unlink(path.c_str()) == 0) {
    SyncParentFolder(path);
  } else if (errno != ENOENT) {
    ThrowErrno(errno, "unlink", path);
  }
}

}  // namespace cairn
