#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/error.h"

namespace cairn {

/// A folder of its own for a test, removed with all in it.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and gives its path.
  std::string Write(const std::string& name, std::string_view content) const;
  std::vector<std::string> Names() const;  ///< of the files in it, sorted

 private:
  std::string path_;
};

std::string ReadFile(const std::string& path);

/// Runs `action` and gives the text of the `Error` of `kind` that it must throw.
std::string ErrorText(ErrorKind kind, const std::function<void()>& action);

/// Writes PREFIX.bin and PREFIX.idx with these documents of one sequence each.
void WriteDataset(const std::string& prefix, const std::vector<std::vector<int32_t>>& documents,
                  int64_t vocab_size = 1000);

}  // namespace cairn
