#include "runtime/checkpoint/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "runtime/base/error.h"

namespace cairn {
namespace {

// Linux moves at most 0x7ffff000 bytes a call; smaller pieces also keep a signal's delay short.
constexpr size_t kMaxBytesPerCall = size_t{1} << 30;

// What a writer lets gather before it has the kernel write it to storage.
constexpr uint64_t kWriteBackBytes = uint64_t{16} << 20;

// open(2) that survives signals.
int OpenDescriptor(const std::string& path, int flags, mode_t mode = 0) {
  int descriptor = -1;
  do {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): POSIX gives no other way.
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

bool IsSymbolicLink(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_symlink(path, ignored);
}

std::string WithoutTrailingSlash(const std::string& path) {
  std::string result = path;
  while (result.size() > 1 && result.back() == '/') result.pop_back();
  return result;
}

// PATH.part, fsync, `check` of it, rename, fsync of the directory.
void ReplaceFile(const std::string& path, const std::function<void(File&)>& write,
                 const std::function<void(const std::string& written)>& check) {
  const std::string part = path + ".part";
  try {
    File file = File::Create(part);
    write(file);
    file.Sync();
    file.Close();
    check(part);
    RenameFile(part, path);
  } catch (const Error&) {
    RemoveFileQuietly(part);
    throw;
  }
  SyncDirectory(ParentDirectory(path));
}

// Reads a file back, from storage where the kernel lets us.
void CheckContent(const std::string& path, std::span<const std::byte> bytes) {
  const File file = File::OpenForRead(path);
  file.DropCache();
  std::vector<std::byte> read(bytes.size());
  if (file.Size() == read.size()) file.ReadAt(0, read);
  if (file.Size() != read.size() || !std::ranges::equal(read, bytes)) {
    Throw(ErrorKind::kIo, path, "does not read back as it was written");
  }
}

}  // namespace

File File::OpenForRead(const std::string& path, Links links) {
  // O_NONBLOCK: opening a pipe must not wait for its writer; on a regular file it means nothing.
  const int no_follow = links == Links::kRefuse ? O_NOFOLLOW : 0;
  const int descriptor = OpenDescriptor(path, O_RDONLY | O_NONBLOCK | no_follow);
  const int error = errno;
  if (descriptor < 0 && no_follow != 0 && IsSymbolicLink(path)) {
    Throw(ErrorKind::kIo, path, "is a symbolic link; the files of a checkpoint are its own");
  }
  if (descriptor < 0) ThrowErrno(error, "open", path);
  File file(path, descriptor);
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) ThrowErrno(errno, "fstat", path);
  if (!S_ISREG(status.st_mode)) Throw(ErrorKind::kIo, path, "is not a regular file");
  return file;
}

File File::Create(const std::string& path) {
  RemoveFile(path);
  const int descriptor = OpenDescriptor(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (descriptor < 0) ThrowErrno(errno, "create", path);
  return {path, descriptor};
}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(written_, other.written_);
  std::swap(sent_, other.sent_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

uint64_t File::Size() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) ThrowErrno(errno, "fstat", path_);
  return static_cast<uint64_t>(status.st_size);
}

void File::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMaxBytesPerCall));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) ThrowErrno(errno, "write", path_);
    if (written == 0) Throw(ErrorKind::kIo, path_, "write took no byte");
    bytes = bytes.subspan(static_cast<size_t>(written));
    written_ += static_cast<uint64_t>(written);
  }
  if (written_ - sent_ < kWriteBackBytes) return;
  // Advice: what is wrong with the storage is for Sync to say.
  (void)::sync_file_range(descriptor_, static_cast<off_t>(sent_),
                          static_cast<off_t>(written_ - sent_), SYNC_FILE_RANGE_WRITE);
  sent_ = written_;
}

void File::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), std::min(out.size(), kMaxBytesPerCall),
                                static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) ThrowErrno(errno, "read", fmt::format("{}: byte {}", path_, offset));
    if (got == 0) {
      Throw(ErrorKind::kIo, path_, "ends at byte {}, {} more were expected", offset, out.size());
    }
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
}

void File::DropCache(uint64_t offset, uint64_t bytes) const {
  const int error = ::posix_fadvise(descriptor_, static_cast<off_t>(offset),
                                    static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
  if (error != 0) ThrowErrno(error, "posix_fadvise", path_);
}

void File::Sync() {
  // No retry, not even on EINTR: after one failure the kernel may report later ones as success.
  if (::fsync(descriptor_) != 0) ThrowErrno(errno, "fsync", path_);
}

void File::Close() {
  // Whatever close returns, Linux has released the descriptor.
  if (::close(std::exchange(descriptor_, -1)) != 0) ThrowErrno(errno, "close", path_);
}

void SyncDirectory(const std::string& path) {
  const int descriptor = OpenDescriptor(path, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) ThrowErrno(errno, "open", path);
  const int sync_error = ::fsync(descriptor) != 0 ? errno : 0;
  const int close_error = ::close(descriptor) != 0 ? errno : 0;
  if (sync_error != 0) ThrowErrno(sync_error, "fsync", path);
  if (close_error != 0) ThrowErrno(close_error, "close", path);
}

void RenameFile(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) ThrowErrno(errno, "rename", from + " to " + to);
}

bool RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) == 0) return true;
  if (errno == ENOENT) return false;
  ThrowErrno(errno, "unlink", path);
}

void RemoveFileQuietly(const std::string& path) noexcept { ::unlink(path.c_str()); }

void MakeDirectories(const std::string& path) {
  const std::string directory = WithoutTrailingSlash(path);
  const std::string parent = ParentDirectory(directory);
  std::error_code error;
  if (std::filesystem::is_directory(directory, error)) {
    // Its maker may have died before it was durable. What nobody may write to, no run made.
    if (::access(parent.c_str(), R_OK | W_OK) == 0) SyncDirectory(parent);
    return;
  }
  if (parent != directory) MakeDirectories(parent);
  // Another rank may be making the same directory: that is no failure.
  const bool made = ::mkdir(directory.c_str(), 0777) == 0;
  if (!made && errno != EEXIST) ThrowErrno(errno, "mkdir", directory);
  if (!std::filesystem::is_directory(directory, error)) ThrowErrno(ENOTDIR, "mkdir", directory);
  try {
    SyncDirectory(parent);
  } catch (const Error&) {
    // No later fsync would prove it durable: it has to be made anew.
    if (made) ::rmdir(directory.c_str());
    throw;
  }
}

void WriteFileAtomically(const std::string& path, const std::function<void(File&)>& write) {
  ReplaceFile(path, write, [](const std::string&) {});
}

void WriteFileAtomically(const std::string& path, std::string_view content,
                         const std::function<void()>& before_rename) {
  const auto bytes = std::as_bytes(std::span(content));
  ReplaceFile(
      path, [&](File& file) { file.Write(bytes); },
      [&](const std::string& written) {
        CheckContent(written, bytes);
        if (before_rename) before_rename();
      });
}

std::string ReadWholeFile(const std::string& path, uint64_t max_bytes, Links links) {
  const File file = File::OpenForRead(path, links);
  const uint64_t size = file.Size();
  if (size > max_bytes) {
    Throw(ErrorKind::kIo, path, "has {} bytes, at most {} are accepted", size, max_bytes);
  }
  std::string content(size, '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span(content)));
  return content;
}

std::string ParentDirectory(const std::string& path) {
  const std::string parent = std::filesystem::path(WithoutTrailingSlash(path)).parent_path();
  return parent.empty() ? "." : parent;
}

std::string JoinPath(const std::string& directory, std::string_view name) {
  return std::filesystem::path(directory) / name;
}

}  // namespace cairn
