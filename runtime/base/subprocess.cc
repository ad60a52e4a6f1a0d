#include "runtime/base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "runtime/base/error.h"

extern char** environ;

namespace cairn {
namespace {

constexpr size_t kKeptBytes = size_t{1} << 20;

// A call that fails only where the operating system has nothing left to give.
void Require(int failure, const char* call, const std::string& program) {
  if (failure != 0) ThrowErrno(failure, call, program);
}

[[noreturn]] void ThrowNotStarted(int failure, const std::string& program) {
  Throw(ErrorKind::kIo, program, "cannot be started: {}{}",
        std::error_code(failure, std::system_category()).message(),
        failure == ENOENT ? " (is it installed, and on the PATH?)" : "");
}

// `words` as exec takes them, valid as long as they are.
std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// The two ends of a pipe that children do not inherit.
class Pipe {
 public:
  explicit Pipe(const std::string& program) {
    if (pipe2(ends_.data(), O_CLOEXEC) != 0) ThrowErrno(errno, "pipe2", program);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    CloseWriteEnd();
    close(ends_[0]);
  }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void CloseWriteEnd() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  std::array<int, 2> ends_{};
};

class FileActions {
 public:
  explicit FileActions(const std::string& program) : program_(program) {
    Require(posix_spawn_file_actions_init(&actions_), "posix_spawn_file_actions_init", program_);
  }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  ~FileActions() { (void)posix_spawn_file_actions_destroy(&actions_); }
  void Open(int target, const char* path, int flags) {
    Require(posix_spawn_file_actions_addopen(&actions_, target, path, flags, 0),
            "posix_spawn_file_actions_addopen", program_);
  }
  void Duplicate(int source, int target) {
    Require(posix_spawn_file_actions_adddup2(&actions_, source, target),
            "posix_spawn_file_actions_adddup2", program_);
  }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  std::string program_;
  posix_spawn_file_actions_t actions_{};
};

// Starts `words` with no signal blocked: training blocks those that stop it. `flags`: more of
// posix_spawnattr_setflags.
pid_t Spawn(const std::vector<std::string>& words, const FileActions& files, short flags = 0) {
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_t attributes;
  Require(posix_spawnattr_init(&attributes), "posix_spawnattr_init", words[0]);
  pid_t child = 0;
  int failure = posix_spawnattr_setsigmask(&attributes, &none);
  if (failure == 0) {
    failure =
        posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | flags));
  }
  if (failure == 0) {
    failure = posix_spawnp(&child, words[0].c_str(), files.get(), &attributes,
                           Pointers(words).data(), environ);
  }
  (void)posix_spawnattr_destroy(&attributes);  // fails only for a wrong argument
  if (failure != 0) ThrowNotStarted(failure, words[0]);
  return child;
}

int WaitFor(pid_t child, const std::string& program) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) ThrowErrno(errno, "waitpid", program);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Reads what is there. False at the end of the stream.
bool ReadSome(int descriptor, std::string& text) {
  std::array<char, 4096> buffer;
  const ssize_t bytes = read(descriptor, buffer.data(), buffer.size());
  if (bytes < 0 && errno == EINTR) return true;
  if (bytes <= 0) return false;
  text.append(buffer.data(), std::min(static_cast<size_t>(bytes), kKeptBytes - text.size()));
  return true;
}

}  // namespace

ProcessResult RunProcess(const std::vector<std::string>& words) {
  Pipe out(words[0]);
  Pipe err(words[0]);
  FileActions files(words[0]);
  files.Open(STDIN_FILENO, "/dev/null", O_RDONLY);
  files.Duplicate(out.write_end(), STDOUT_FILENO);
  files.Duplicate(err.write_end(), STDERR_FILENO);
  const pid_t child = Spawn(words, files);
  out.CloseWriteEnd();
  err.CloseWriteEnd();

  ProcessResult result;
  std::array<std::string*, 2> texts = {&result.out, &result.err};
  std::array<pollfd, 2> events = {pollfd{out.read_end(), POLLIN, 0},
                                  pollfd{err.read_end(), POLLIN, 0}};
  while (events[0].fd >= 0 || events[1].fd >= 0) {
    if (poll(events.data(), events.size(), -1) < 0) {
      if (errno == EINTR) continue;
      break;  // the child still ends, and its status tells
    }
    for (size_t i = 0; i < events.size(); ++i) {
      if (events[i].fd < 0 || events[i].revents == 0) continue;
      if (!ReadSome(events[i].fd, *texts[i])) events[i].fd = -1;  // poll passes over it
    }
  }
  result.status = WaitFor(child, words[0]);
  return result;
}

pid_t StartProcessGroup(const std::vector<std::string>& words) {
  return Spawn(words, FileActions(words[0]), POSIX_SPAWN_SETPGROUP);
}

int RunProcessHere(const std::vector<std::string>& words) {
  return WaitFor(Spawn(words, FileActions(words[0])), words[0]);
}

void BecomeProcess(const std::vector<std::string>& words) {
  execvp(words[0].c_str(), Pointers(words).data());
  ThrowNotStarted(errno, words[0]);
}

}  // namespace cairn
