#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = size_t{1} << 20;
constexpr std::string_view kExtension = ".textproto";

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Closes what was opened here; standard input stays open.
class ReadDescriptor {
 public:
  explicit ReadDescriptor(int fd) : fd_(fd) {}
  ReadDescriptor(const ReadDescriptor&) = delete;
  ReadDescriptor& operator=(const ReadDescriptor&) = delete;
  ~ReadDescriptor() {
    // Nothing was written: a failing close loses nothing.
    if (fd_ > STDERR_FILENO) static_cast<void>(::close(fd_));
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void ThrowUnreadable(const std::string& where, int errno_value) {
  Throw(ErrorKind::kConfig, where, "cannot be read: {}",
        std::error_code(errno_value, std::system_category()).message());
}

// Reads by bytes, not by the file's size, so that pipes work and endless files end.
std::string ReadAll(int fd, const std::string& where) {
  std::string text;
  std::array<char, 65536> block;
  while (true) {
    const ssize_t count = ::read(fd, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) ThrowUnreadable(where, errno);
    if (count == 0) return text;
    text.append(block.data(), static_cast<size_t>(count));
    if (text.size() > kMaxConfigBytes) {
      Throw(ErrorKind::kConfig, where, "is larger than {} bytes, which no config is",
            kMaxConfigBytes);
    }
  }
}

std::string ReadPath(const std::string& path) {
  const std::string where = Printable(path, 4096);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) ThrowUnreadable(where, errno);
  const ReadDescriptor descriptor(fd);
  return ReadAll(descriptor.get(), where);
}

[[noreturn]] void ThrowNotFound(const std::string& name, const ConfigSources& sources) {
  const std::vector<std::string> presets = PresetNames(sources);
  std::string bare = fs::path(name).filename().string();
  if (bare.ends_with(kExtension)) bare.resize(bare.size() - kExtension.size());
  Throw(ErrorKind::kConfig, Printable(name), "there is no such config file{}{}{}",
        name.find('/') == std::string::npos ? " or preset" : "", DidYouMean(bare, presets),
        presets.empty() ? "" : fmt::format(" (presets: {})", fmt::join(presets, ", ")));
}

}  // namespace

std::string FindConfigsDir(const std::string& executable) {
  if (const char* chosen = std::getenv("CAIRN_CONFIG_DIR"); chosen != nullptr && *chosen != '\0') {
    if (!IsFolder(chosen)) {
      Throw(ErrorKind::kConfig, "CAIRN_CONFIG_DIR", "{} is no folder", Quoted(chosen));
    }
    return chosen;
  }
  const fs::path bin = fs::path(executable).parent_path();
  // SOURCE/build/PRESET/bin/cairn, then PREFIX/bin/cairn.
  for (const char* relative : {"../../../configs", "../share/cairn/configs"}) {
    fs::path candidate = (bin / relative).lexically_normal();
    if (IsFolder(candidate)) return candidate.string();
  }
  return "";
}

std::vector<std::string> PresetNames(const ConfigSources& sources) {
  std::vector<std::string> names;
  if (sources.configs_dir.empty()) return names;
  std::error_code error;
  fs::directory_iterator entry(sources.configs_dir, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    if (path.extension() == kExtension) names.push_back(path.stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

ConfigFile ReadConfigFile(const std::string& name, const ConfigSources& sources) {
  if (name == "-") return {"<stdin>", ReadAll(STDIN_FILENO, "<stdin>")};
  if (name.empty() || name.find('\0') != std::string::npos) ThrowNotFound(name, sources);
  if (name.find('/') == std::string::npos && !sources.configs_dir.empty()) {
    const std::string preset =
        (fs::path(sources.configs_dir) / (name + std::string(kExtension))).string();
    if (Exists(preset)) return {preset, ReadPath(preset)};
  }
  if (!Exists(name)) ThrowNotFound(name, sources);
  return {name, ReadPath(name)};
}

}  // namespace cairn
