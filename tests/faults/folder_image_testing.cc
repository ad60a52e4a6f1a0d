#include "folder_image_testing.h"

#include <glog/logging.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace cairn::faults {

namespace fs = std::filesystem;

FolderImage ReadFolder(const std::string& root) {
  FolderImage image;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    std::optional<std::string>& content = image[entry.path().string().substr(root.size() + 1)];
    if (entry.is_directory()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    content.emplace(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return image;
}

void WriteFolder(const std::string& root, const FolderImage& image) {
  fs::remove_all(root);
  fs::create_directories(root);
  for (const auto& [path, content] : image) {
    const std::string full = root + "/" + path;
    if (content) {
      std::ofstream(full, std::ios::binary) << *content;
    } else {
      fs::create_directory(full);
    }
  }
}

Scratch::Scratch() {
  const fs::path base = fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path();
  std::string pattern = base / "cairn-faults-XXXXXX";
  CHECK(::mkdtemp(pattern.data()) != nullptr) << pattern;
  path_ = pattern;
  fs::create_directory(root());
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace cairn::faults
