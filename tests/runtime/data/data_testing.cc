#include "tests/runtime/data/data_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/data/indexed_dataset.h"

namespace cairn {

TestFolder::TestFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "cairn-data-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) ThrowErrno(errno, "mkdtemp", pattern);
  path_ = pattern;
}

TestFolder::~TestFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TestFolder::Write(const std::string& name, std::string_view content) const {
  std::ofstream file(Path(name), std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  EXPECT_TRUE(file.good());
  return Path(name);
}

std::vector<std::string> TestFolder::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string ErrorText(ErrorKind kind, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(ErrorKindName(error.kind()), std::string(ErrorKindName(kind))) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

void WriteDataset(const std::string& prefix, const std::vector<std::vector<int32_t>>& documents,
                  int64_t vocab_size) {
  IndexedDatasetWriter writer(prefix, vocab_size);
  for (const auto& document : documents) writer.Add(document);
  writer.Finish();
}

}  // namespace cairn
