#include "shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <utility>

#include "journal.h"

// The C library declares these functions with attributes of its own; what is defined here only has
// to have their names and types.

namespace cairn::faults {
namespace {

struct State {
  std::atomic<bool> armed = false;
  std::string root;
  Plan plan;
  Report* report = nullptr;
  int journal = -1;
  std::atomic<bool> failing = false;  // for ever
  std::mutex mutex;                   // of the journal: its order is that of the operations
  std::set<uint64_t> failed_syncs;    // inodes of files
  int process_rank = -1;              // of threads without one
  std::string report_path;            // of a process that its environment armed
  Report own_report = {};
};

// Never destroyed: threads may outlive main.
State& TheState() {
  static State& state = *new State;
  return state;
}

thread_local int thread_rank = -1;
thread_local bool inside = false;  // an operation of the shim's own

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

void WriteRaw(int descriptor, const std::string& bytes) {
  if (syscall(SYS_write, descriptor, bytes.data(), bytes.size()) !=
      static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
}

std::string Absolute(const char* path) {
  const std::filesystem::path given(path);
  std::string text =
      (given.is_absolute() ? given : std::filesystem::current_path() / given).lexically_normal();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

// The path of an open file or folder; empty for what has none.
std::string PathOf(int descriptor) {
  std::array<char, 4096> target;
  char link[64];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  const ssize_t length = ::readlink(link, target.data(), target.size());
  return length > 0 && target[0] == '/' ? std::string(target.data(), length) : "";
}

struct Call {
  Operation operation;
  std::string path;
  std::string target;
  uint64_t inode = 0;  // of an open file
  uint64_t offset = 0;
  const char* data = nullptr;
  size_t size = 0;
  bool is_file = false;
};

// Does `bytes` of a write, or the whole of another operation.
using Perform = std::function<ssize_t(const char* data, size_t bytes)>;

int RankHere() { return thread_rank >= 0 ? thread_rank : TheState().process_rank; }

bool Concerns(const std::string& path) {
  const State& state = TheState();
  return path.starts_with(state.root) &&
         (path.size() == state.root.size() || path[state.root.size()] == '/');
}

bool Watched() { return !inside && TheState().armed && RankHere() >= 0; }

void Record(const Call& call, ssize_t result) {
  State& state = TheState();
  if (state.journal < 0) return;
  JournalEntry entry = {.operation = call.operation,
                        .failed = result < 0,
                        .rank = RankHere(),
                        .path = call.path,
                        .target = call.target,
                        .offset = call.offset,
                        .data = ""};
  if (call.operation == Operation::kWrite && result > 0) entry.data.assign(call.data, result);
  WriteRaw(state.journal, EncodeEntry(entry));
}

[[noreturn]] void Die() {
  State& state = TheState();
  if (!state.plan.one_rank) ::kill(::getpid(), SIGKILL);
  state.plan.died();
  for (;;) ::pause();
}

// Room is needed for these.
bool TakesSpace(Operation operation) {
  return operation == Operation::kCreate || operation == Operation::kWrite ||
         operation == Operation::kRename || operation == Operation::kMakeFolder;
}

// An error of what is done, or half done, or not.
ssize_t Fail(const Call& call, const Perform& perform, bool performed) {
  State& state = TheState();
  ssize_t result = -1;
  switch (call.operation) {
    case Operation::kClose:
      perform(nullptr, 0);
      break;
    case Operation::kSync:
      if (call.is_file) state.failed_syncs.insert(call.inode);
      break;
    case Operation::kWrite:
      if (performed) result = perform(call.data, call.size / 2);
      break;
    case Operation::kCreate:
      if (performed) result = perform(nullptr, 0);
      // Nobody gets the descriptor.
      if (result >= 0) syscall(SYS_close, static_cast<int>(result));
      break;
    default:
      if (performed) result = perform(nullptr, 0);
  }
  Record(call, result);
  errno = state.plan.error;
  return -1;
}

ssize_t Act(const Call& call, const Perform& perform) {
  State& state = TheState();
  const Plan& plan = state.plan;
  std::string flipped;
  switch (plan.action) {
    case Action::kNone:
      break;
    case Action::kKillBefore:
      Die();
    case Action::kKillAfter:
      Record(call, perform(call.data, call.size));
      Die();
    case Action::kTear:
      Record(call, perform(call.data, call.size / 2));
      Die();
    case Action::kShort: {
      const ssize_t result = perform(call.data, std::max<size_t>(call.size / 2, 1));
      Record(call, result);
      return result;
    }
    case Action::kFail:
    case Action::kFailAfter:
      return Fail(call, perform, plan.action == Action::kFailAfter);
    case Action::kFailForever:
    case Action::kFullForever:
      state.failing = true;
      return Fail(call, perform, false);
    case Action::kSkip:
      return static_cast<ssize_t>(call.size);
    case Action::kFlip: {
      flipped.assign(call.data, call.size);
      flipped[call.size / 2] ^= 4;
      Call changed = call;
      changed.data = flipped.data();
      const ssize_t result = perform(changed.data, changed.size);
      Record(changed, result);
      return result;
    }
  }
  const ssize_t result = perform(call.data, call.size);
  Record(call, result);
  return result;
}

void Announce(const Call& call) {
  State& state = TheState();
  if (state.report->fired.exchange(true)) return;
  state.report->operation = call.operation;
  std::snprintf(state.report->path, sizeof(state.report->path), "%s", call.path.c_str());
  if (state.report_path.empty()) return;
  const int file = static_cast<int>(syscall(SYS_openat, AT_FDCWD, state.report_path.c_str(),
                                            O_WRONLY | O_CREAT | O_APPEND, 0644));
  WriteRaw(file, "fired " + call.path + "\n");
  syscall(SYS_close, file);
}

ssize_t Run(const Call& call, const Perform& perform) {
  State& state = TheState();
  const int rank = RankHere();
  inside = true;
  std::unique_lock lock(state.mutex, std::defer_lock);
  if (state.journal >= 0) lock.lock();
  const int64_t index = state.report->counts[rank]++;
  if (call.operation == Operation::kSync && call.is_file &&
      state.failed_syncs.contains(call.inode)) {
    state.report->trusted_second_sync = true;
  }
  ssize_t result = 0;
  if (rank == state.plan.rank && index == state.plan.index && state.plan.action != Action::kNone) {
    Announce(call);
    result = Act(call, perform);
  } else if (state.failing &&
             (state.plan.action == Action::kFailForever || TakesSpace(call.operation))) {
    result = Fail(call, perform, false);
  } else {
    result = perform(call.data, call.size);
    Record(call, result);
  }
  inside = false;
  return result;
}

ssize_t OnDescriptor(Operation operation, int descriptor, const void* data, size_t size,
                     const Perform& perform) {
  struct stat status = {};
  if (!Watched() || ::fstat(descriptor, &status) != 0 ||
      !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
    return perform(static_cast<const char*>(data), size);
  }
  Call call = {.operation = operation,
               .path = PathOf(descriptor),
               .target = "",
               .inode = status.st_ino,
               .data = static_cast<const char*>(data),
               .size = size,
               .is_file = S_ISREG(status.st_mode)};
  const bool reads = operation == Operation::kClose && call.is_file &&
                     (::fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY;
  if (reads || !Concerns(call.path)) return perform(call.data, size);
  if (operation == Operation::kWrite) call.offset = ::lseek(descriptor, 0, SEEK_CUR);
  return Run(call, perform);
}

int OnPath(Operation operation, const char* path, const char* target, const Perform& perform) {
  if (!Watched()) return static_cast<int>(perform(nullptr, 0));
  const Call call = {.operation = operation,
                     .path = Absolute(path),
                     .target = target != nullptr ? Absolute(target) : ""};
  if (!Concerns(call.path)) return static_cast<int>(perform(nullptr, 0));
  return static_cast<int>(Run(call, perform));
}

int OnOpen(const char* path, int flags, const std::function<int()>& perform) {
  if ((flags & O_CREAT) == 0) return perform();
  return OnPath(Operation::kCreate, path, nullptr, [&](const char*, size_t) { return perform(); });
}

// Arms the process by its environment, and tells at exit how many operations there were.
struct Environment {
  Environment() {
    const char* root = std::getenv("CAIRN_FAULT_ROOT");
    if (root == nullptr) return;
    State& state = TheState();
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    state.process_rank = rank != nullptr ? std::atoi(rank) : 0;
    Plan plan;
    if (const char* text = std::getenv("CAIRN_FAULT")) {
      int action = 0;
      long long index = 0;
      if (std::sscanf(text, "%d %lld %d %d", &plan.rank, &index, &action, &plan.error) != 4) {
        std::abort();
      }
      plan.index = index;
      plan.action = static_cast<Action>(action);
    }
    if (const char* report = std::getenv("CAIRN_FAULT_REPORT")) {
      state.report_path = std::string(report) + "-" + std::to_string(state.process_rank);
    }
    Arm(root, plan, &state.own_report);
  }
  ~Environment() {
    const State& state = TheState();
    if (state.report_path.empty()) return;
    const int file = static_cast<int>(syscall(SYS_openat, AT_FDCWD, state.report_path.c_str(),
                                              O_WRONLY | O_CREAT | O_APPEND, 0644));
    WriteRaw(file, "operations " +
                       std::to_string(state.own_report.counts[state.process_rank].load()) + "\n");
    syscall(SYS_close, file);
  }
};
const Environment environment;

}  // namespace

void Arm(const std::string& root, const Plan& plan, Report* report, int journal) {
  State& state = TheState();
  state.root = root;
  state.plan = plan;
  state.report = report;
  state.journal = journal;
  state.failing = false;
  state.armed = true;
}

void Relent() {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  state.plan.action = Action::kNone;
  state.failing = false;
}

void Disarm() { TheState().armed = false; }

void SetRank(int rank) { thread_rank = rank; }

void Mark(const std::string& text) {
  State& state = TheState();
  if (state.journal < 0) return;
  const std::lock_guard lock(state.mutex);
  JournalEntry entry;
  entry.mark = true;
  entry.path = text;
  WriteRaw(state.journal, EncodeEntry(entry));
}

}  // namespace cairn::faults

using namespace cairn::faults;  // NOLINT: the definitions below are the C library's

extern "C" {

ssize_t write(int descriptor, const void* data, size_t size) {
  static auto* const next = Next<ssize_t(int, const void*, size_t)>("write");
  return OnDescriptor(
      Operation::kWrite, descriptor, data, size,
      [=](const char* bytes, size_t count) { return next(descriptor, bytes, count); });
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  static auto* const next = Next<ssize_t(int, const iovec*, int)>("writev");
  if (!Watched()) return next(descriptor, parts, count);
  // As one write of all parts.
  std::string all;
  for (int i = 0; i < count; ++i) {
    all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  }
  return write(descriptor, all.data(), all.size());
}

int fsync(int descriptor) {
  static auto* const next = Next<int(int)>("fsync");
  return static_cast<int>(OnDescriptor(Operation::kSync, descriptor, nullptr, 0,
                                       [=](const char*, size_t) { return next(descriptor); }));
}

int fdatasync(int descriptor) { return fsync(descriptor); }

int close(int descriptor) {
  static auto* const next = Next<int(int)>("close");
  return static_cast<int>(OnDescriptor(Operation::kClose, descriptor, nullptr, 0,
                                       [=](const char*, size_t) { return next(descriptor); }));
}

int open(const char* path, int flags, ...) {
  static auto* const next = Next<int(const char*, int, ...)>("open");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return OnOpen(path, flags, [=] { return next(path, flags, mode); });
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open(path, flags | O_LARGEFILE, mode);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = Next<int(const char*, const char*)>("rename");
  return OnPath(Operation::kRename, from, to, [=](const char*, size_t) { return next(from, to); });
}

int unlink(const char* path) noexcept {
  static auto* const next = Next<int(const char*)>("unlink");
  return OnPath(Operation::kUnlink, path, nullptr, [=](const char*, size_t) { return next(path); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const next = Next<int(const char*, mode_t)>("mkdir");
  return OnPath(Operation::kMakeFolder, path, nullptr,
                [=](const char*, size_t) { return next(path, mode); });
}

int rmdir(const char* path) noexcept {
  static auto* const next = Next<int(const char*)>("rmdir");
  return OnPath(Operation::kRemoveFolder, path, nullptr,
                [=](const char*, size_t) { return next(path); });
}

// Threads inherit the rank of their maker.
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                   void* argument) noexcept {
  static auto* const next =
      Next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  if (thread_rank < 0) return next(thread, attributes, body, argument);
  struct Start {
    void* (*body)(void*);
    void* argument;
    int rank;
  };
  const auto run = [](void* given) -> void* {
    const std::unique_ptr<Start> start(static_cast<Start*>(given));
    SetRank(start->rank);
    return start->body(start->argument);
  };
  auto* const start = new Start{body, argument, thread_rank};
  const int result = next(thread, attributes, run, start);
  if (result != 0) delete start;
  return result;
}

}  // extern "C"
