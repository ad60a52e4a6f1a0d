#pragma once

#include <map>
#include <optional>
#include <string>

namespace cairn::faults {

/// What lies below a folder: paths relative to it, the bytes of files, nothing for folders.
using FolderImage = std::map<std::string, std::optional<std::string>>;

FolderImage ReadFolder(const std::string& root);

/// Makes `root` hold exactly `image`.
void WriteFolder(const std::string& root, const FolderImage& image);

/// A folder in memory, where there is such a thing, with the paths of two things in it: the run
/// under test and a journal. Removed at the end of its scope.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// What operations are watched in; its subfolder "run" is the run's folder.
  std::string root() const { return path_ + "/root"; }
  std::string run() const { return root() + "/run"; }
  std::string journal() const { return path_ + "/journal"; }

 private:
  std::string path_;
};

}  // namespace cairn::faults
