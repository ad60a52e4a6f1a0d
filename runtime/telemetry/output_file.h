#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

/// A regular file being written. Every failed system call is an Error(kIo) that names path and
/// call.
class OutputFile {
 public:
  enum class Mode : uint8_t {
    kAppend,   ///< after what is there; made if missing
    kReplace,  ///< from empty; made if missing
    kNew,      ///< must not exist
  };

  OutputFile(std::string path, Mode mode);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  const std::string& path() const { return path_; }
  /// Adds all of `data` at the end or, on an error, none of it, so that the next record does not
  /// follow half a one.
  void Append(std::string_view data);
  /// Writes all of `data` from byte `offset` on. Not for kAppend.
  void WriteAt(int64_t offset, std::string_view data);
  /// fsync.
  void Sync();

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace cairn
