#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace cairn {

/// What becomes of a path whose last part is a symbolic link.
enum class Links {
  kFollow,
  kRefuse,  ///< as inside a checkpoint, whose files are its own
};

/// An open file. Every failed system call is an Error of kind kIo that names the path, the call and
/// the system's reason. A failed fsync or close is final: the data must be taken as lost.
class File {
 public:
  /// Opens an existing regular file for reading; anything else (a pipe, a directory) is refused.
  static File OpenForRead(const std::string& path, Links links = Links::kFollow);
  /// Makes a new, empty file for writing; a leftover of that name is unlinked, never truncated, so
  /// that no other name of the same file changes.
  static File Create(const std::string& path);

  File(File&& other) noexcept
      : path_(std::move(other.path_)),
        descriptor_(std::exchange(other.descriptor_, -1)),
        written_(other.written_),
        sent_(other.sent_) {}
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  /// Closes without a check; a writer calls Close() first.
  ~File();

  const std::string& path() const { return path_; }
  /// The size in bytes now.
  uint64_t Size() const;
  /// Appends all of `bytes`. The kernel is told now and then to begin writing to storage, for it
  /// would leave all of it to Sync.
  void Write(std::span<const std::byte> bytes);
  /// Fills `out` from byte `offset`; an end of file before that is an Error naming the byte range.
  void ReadAt(uint64_t offset, std::span<std::byte> out) const;
  /// Asks the kernel to forget its clean copy of `bytes` bytes from `offset` (0: of all that
  /// follow), so that they are read from storage again.
  void DropCache(uint64_t offset = 0, uint64_t bytes = 0) const;
  /// fsync.
  void Sync();
  /// Closes and checks the result.
  void Close();

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;
  uint64_t written_ = 0;
  uint64_t sent_ = 0;  // of these, what the kernel was told to write to storage
};

/// fsync of a directory: makes creations, renames and removals inside it durable.
void SyncDirectory(const std::string& path);

/// rename(2): `to` is replaced in one step. Durable only after SyncDirectory of the parent.
void RenameFile(const std::string& from, const std::string& to);

/// Unlinks a file; false if there is none.
bool RemoveFile(const std::string& path);

/// Removes a file if it can be removed; for clean-up while another error is on its way.
void RemoveFileQuietly(const std::string& path) noexcept;

/// Makes a directory and its missing parents, each made durable in its parent; so is one that is
/// there already.
void MakeDirectories(const std::string& path);

/// Writes a whole file so that readers see the old content or the new, never a part:
/// PATH.part, fsync, a look at whether it reads back so, rename, fsync of the directory.
/// `before_rename` is called when nothing but the rename is left; what it throws undoes all.
void WriteFileAtomically(const std::string& path, std::string_view content,
                         const std::function<void()>& before_rename = {});
/// The same for content that `write` appends to the file it is given, and nobody reads back.
void WriteFileAtomically(const std::string& path, const std::function<void(File&)>& write);

/// The content of a regular file, refused if it has more than `max_bytes`.
std::string ReadWholeFile(const std::string& path, uint64_t max_bytes,
                          Links links = Links::kFollow);

/// The directory part of `path`, "." if there is none.
std::string ParentDirectory(const std::string& path);

/// `directory`/`name`.
std::string JoinPath(const std::string& directory, std::string_view name);

}  // namespace cairn
