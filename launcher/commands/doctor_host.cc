#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/commands/doctor_checks.h"
#include "runtime/telemetry/format.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

/// The beginning of a file of the kernel's, empty if there is none.
std::string ReadKernelFile(const fs::path& path) {
  constexpr size_t kMaxBytes = size_t{64} << 10;
  std::string content(kMaxBytes, '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(in.gcount()));
  return content;
}

std::vector<std::string_view> SplitBy(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::optional<int64_t> ParseNumber(std::string_view text) {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

/// The value of "KEY : VALUE" in a file such as /proc/cpuinfo.
std::string ValueOf(std::string_view file, std::string_view key) {
  for (std::string_view line : SplitBy(file, '\n')) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string_view::npos ? "" : std::string(line.substr(begin));
  }
  return "";
}

/// This process's cgroup of `controller` and its parents, as directories; both versions of cgroups.
std::vector<fs::path> CgroupDirectories(std::string_view controller) {
  std::vector<fs::path> directories;
  const std::string own = ReadKernelFile("/proc/self/cgroup");
  for (std::string_view line : SplitBy(own, '\n')) {  // ID:CONTROLLERS:PATH
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    fs::path mount = "/sys/fs/cgroup";
    if (!controllers.empty()) {
      const auto names = SplitBy(controllers, ',');
      if (std::find(names.begin(), names.end(), controller) == names.end()) continue;
      mount /= controller;
    }
    const fs::path relative = fs::path(line.substr(second + 1)).lexically_normal().relative_path();
    fs::path directory = mount;
    directories.push_back(directory);
    for (const fs::path& part : relative) directories.push_back(directory /= part);
  }
  return directories;
}

/// CPUs' worth of time that the cgroups allow.
std::optional<double> CpuQuota() {
  std::optional<double> quota;
  const auto limit_to = [&quota](std::optional<int64_t> time, std::optional<int64_t> period) {
    if (!time || !period || *time <= 0 || *period <= 0) return;
    const double cpus = static_cast<double>(*time) / static_cast<double>(*period);
    quota = std::min(quota.value_or(cpus), cpus);
  };
  for (const fs::path& directory : CgroupDirectories("cpu")) {
    const std::string both = ReadKernelFile(directory / "cpu.max");  // "QUOTA|max PERIOD"
    const size_t space = both.find(' ');
    if (space != std::string::npos) {
      limit_to(ParseNumber(both), ParseNumber(std::string_view(both).substr(space + 1)));
    }
    limit_to(ParseNumber(ReadKernelFile(directory / "cpu.cfs_quota_us")),
             ParseNumber(ReadKernelFile(directory / "cpu.cfs_period_us")));
  }
  return quota;
}

std::optional<int64_t> MemoryLimit() {
  std::optional<int64_t> limit;
  for (const fs::path& directory : CgroupDirectories("memory")) {
    for (const char* name : {"memory.max", "memory.limit_in_bytes"}) {
      const auto bytes = ParseNumber(ReadKernelFile(directory / name));
      constexpr int64_t kUnlimited = int64_t{1} << 60;  // version 1 writes about 2^63
      if (bytes && *bytes < kUnlimited) limit = std::min(limit.value_or(*bytes), *bytes);
    }
  }
  return limit;
}

int AffinityCpus() {
  // The mask of a large host does not fit cpu_set_t; the kernel says EINVAL until it does.
  for (int cpus = CPU_SETSIZE; cpus <= 1 << 20; cpus *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> mask(
        CPU_ALLOC(cpus), [](cpu_set_t* set) { CPU_FREE(set); });
    if (mask == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    CPU_ZERO_S(bytes, mask.get());
    if (::sched_getaffinity(0, bytes, mask.get()) == 0) return CPU_COUNT_S(bytes, mask.get());
  }
  return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

/// Cores of the host, each counted once whatever its hardware threads.
size_t PhysicalCores() {
  std::set<std::string> cores;
  std::error_code failure;
  const fs::path cpus = "/sys/devices/system/cpu";
  for (fs::directory_iterator entry(cpus, failure); !failure && entry != fs::directory_iterator();
       entry.increment(failure)) {
    std::string siblings = ReadKernelFile(entry->path() / "topology/thread_siblings_list");
    if (!siblings.empty()) cores.insert(std::move(siblings));
  }
  return cores.size();
}

DoctorCheck CheckCpu() {
  DoctorCheck check("processor");
  utsname system{};
  if (::uname(&system) != 0) system = {};
  std::string model = ValueOf(ReadKernelFile("/proc/cpuinfo"), "model name");
  if (model.empty()) model = fmt::format("{} processor", system.machine);
  const int64_t threads = ::sysconf(_SC_NPROCESSORS_ONLN);
  const size_t cores = PhysicalCores();
  check.text =
      fmt::format("{}: {} hardware threads on {} cores; host {}, Linux {}", model, threads,
                  cores == 0 ? "?" : fmt::format("{}", cores), system.nodename, system.release);
  check.facts = {{"model", model},
                 {"hardware_threads", threads},
                 {"cores", cores},
                 {"host", system.nodename},
                 {"kernel", system.release}};
  return check;
}

DoctorCheck CheckCores() {
  DoctorCheck check("usable cores");
  const int affinity = AffinityCpus();
  const std::optional<double> quota = CpuQuota();
  check.text = fmt::format("{} by affinity", affinity);
  check.facts = {{"usable", UsableCores()}, {"affinity", affinity}, {"quota", nullptr}};
  if (quota.has_value()) {
    check.text += fmt::format(", {:.1f} by cgroup quota", *quota);
    check.facts["quota"] = *quota;
    if (*quota < affinity) {
      check.Warn(
          fmt::format("more busy threads than the quota are stopped again and again: keep "
                      "ranks x OMP_NUM_THREADS at {} or below",
                      UsableCores()));
    }
  }
  return check;
}

DoctorCheck CheckMemory() {
  DoctorCheck check("memory");
  const std::string meminfo = ReadKernelFile("/proc/meminfo");
  constexpr int64_t kKiB = 1024;
  const int64_t total = ParseNumber(ValueOf(meminfo, "MemTotal")).value_or(0) * kKiB;
  int64_t available = ParseNumber(ValueOf(meminfo, "MemAvailable")).value_or(0) * kKiB;
  const std::optional<int64_t> limit = MemoryLimit();
  check.text = fmt::format("{} of {} free", FormatBytes(available), FormatBytes(total));
  check.facts = {{"total_bytes", total}, {"available_bytes", available}, {"limit_bytes", nullptr}};
  if (limit.has_value()) {
    check.text += fmt::format(", limited to {} by cgroup", FormatBytes(*limit));
    check.facts["limit_bytes"] = *limit;
    available = std::min(available, *limit);
  }
  if (available < 256 * kMiB) {
    check.Fail("free some memory: not even a small model fits");
  } else if (available < 2 * kGiB) {
    check.Warn("only small models fit: `cairn train CONFIG --dry-run` says how much one takes");
  }
  return check;
}

std::string LimitText(rlim_t limit, bool bytes) {
  if (limit == RLIM_INFINITY) return "unlimited";
  const auto value = static_cast<int64_t>(
      std::min<rlim_t>(limit, static_cast<rlim_t>(std::numeric_limits<int64_t>::max())));
  return bytes ? FormatBytes(value) : FormatThousands(value);
}

nlohmann::ordered_json LimitFact(rlim_t limit) {
  return limit == RLIM_INFINITY ? nlohmann::ordered_json() : nlohmann::ordered_json(limit);
}

DoctorCheck CheckLimits() {
  DoctorCheck check("limits");
  rlimit files{};
  rlimit locked{};
  rlimit address_space{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || ::getrlimit(RLIMIT_MEMLOCK, &locked) != 0 ||
      ::getrlimit(RLIMIT_AS, &address_space) != 0) {
    check.text = "unknown";
    return check;
  }
  check.text = fmt::format("open files {}, locked memory {}, address space {}",
                           LimitText(files.rlim_cur, false), LimitText(locked.rlim_cur, true),
                           LimitText(address_space.rlim_cur, true));
  check.facts = {{"open_files", LimitFact(files.rlim_cur)},
                 {"locked_memory_bytes", LimitFact(locked.rlim_cur)},
                 {"address_space_bytes", LimitFact(address_space.rlim_cur)}};
  constexpr rlim_t kFewFiles = 1024;  // sharded data and sockets to every rank
  if (files.rlim_cur < kFewFiles) check.Warn("raise the limit of open files: ulimit -n 65536");
  std::error_code none;
  if (!fs::is_empty("/sys/class/infiniband", none) && !none && locked.rlim_cur != RLIM_INFINITY) {
    check.Warn("InfiniBand pins its buffers: ulimit -l unlimited");
  }
  if (address_space.rlim_cur != RLIM_INFINITY) {
    check.Warn("a limited address space fails far below its number: ulimit -v unlimited");
  }
  return check;
}

struct FileSystem {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};

std::optional<FileSystem> StatFileSystem(const char* path) {
  struct statvfs status {};
  if (::statvfs(path, &status) != 0) return std::nullopt;
  const auto block = static_cast<int64_t>(status.f_frsize);
  return FileSystem{.free_bytes = static_cast<int64_t>(status.f_bavail) * block,
                    .total_bytes = static_cast<int64_t>(status.f_blocks) * block};
}

DoctorCheck CheckSpace(const char* name, const char* path, int64_t enough, const char* advice) {
  DoctorCheck check(name);
  const std::optional<FileSystem> space = StatFileSystem(path);
  check.facts["path"] = path;
  if (!space.has_value()) {
    check.text = fmt::format("{} is missing", path);
    check.Warn(advice);
    return check;
  }
  check.text = fmt::format("{} of {} free in {}", FormatBytes(space->free_bytes),
                           FormatBytes(space->total_bytes), path);
  check.facts["free_bytes"] = space->free_bytes;
  check.facts["total_bytes"] = space->total_bytes;
  if (space->free_bytes < enough) check.Warn(advice);
  return check;
}

}  // namespace

int UsableCores() {
  const int affinity = AffinityCpus();
  const std::optional<double> quota = CpuQuota();
  if (!quota.has_value() || *quota >= affinity) return affinity;
  return std::max(1, static_cast<int>(std::floor(*quota)));
}

std::vector<DoctorCheck> CheckHost() {
  std::error_code unreachable;
  const std::string here = fs::current_path(unreachable).string();
  return {
      CheckCpu(),
      CheckCores(),
      CheckMemory(),
      CheckLimits(),
      CheckSpace("shared memory", "/dev/shm", kGiB,
                 "ranks on one host talk through it; in a container, start that with "
                 "--shm-size=8g or --ipc=host"),
      CheckSpace("disk", unreachable ? "." : here.c_str(), 10 * kGiB,
                 "a checkpoint with its optimizer takes 12 to 16 bytes per parameter: put run_dir "
                 "where there is room"),
  };
}

}  // namespace cairn
