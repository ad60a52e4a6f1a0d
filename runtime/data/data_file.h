#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cairn {

/// A regular file opened for reading. Every failure is an `Error` that names the file.
class DataFile {
 public:
  /// Throws kData when `path` is missing or not a regular file, kIo when it cannot be opened.
  explicit DataFile(std::string path);
  DataFile(const DataFile&) = delete;
  DataFile& operator=(const DataFile&) = delete;
  ~DataFile();

  /// Fills `to` with the `bytes` at `offset`; throws kData when the file ends before. Thread-safe.
  void ReadAt(uint64_t offset, void* to, size_t bytes) const;

  uint64_t size() const { return size_; }  ///< bytes when it was opened
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_;
  uint64_t size_ = 0;
};

/// The content of a file that may take `max_bytes` at most.
std::string ReadDataFile(const std::string& path, uint64_t max_bytes);

/// A file written under `path`.tmp that takes its name only once it is whole and on disk.
/// Dropped before `Publish()`, it leaves nothing behind.
class AtomicDataFile {
 public:
  explicit AtomicDataFile(std::string path);
  AtomicDataFile(const AtomicDataFile&) = delete;
  AtomicDataFile& operator=(const AtomicDataFile&) = delete;
  ~AtomicDataFile();

  void Append(const void* from, size_t bytes);
  /// Brings what was appended to disk and closes the file; nothing may be appended after.
  void Sync();
  /// Renames the synced file to its name and brings the rename to disk.
  void Publish();

  uint64_t size() const { return size_; }  ///< bytes appended so far

 private:
  void Flush();

  std::string path_;
  std::string temporary_path_;
  std::string buffer_;
  int descriptor_;
  uint64_t size_ = 0;
};

/// Removes `path` if it is there, and brings the removal to disk.
void RemoveFileIfPresent(const std::string& path);

}  // namespace cairn
