#include "launcher/launch/supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <optional>
#include <thread>

#include "runtime/base/error.h"
#include "runtime/base/subprocess.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

void Say(const std::string& text) {
  const std::string line = fmt::format("cairn: {}\n", text);
  std::fputs(line.c_str(), stderr);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The signals that a supervisor waits for, blocked in this process as long as it lives.
class SupervisorSignals {
 public:
  SupervisorSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) sigaddset(&set_, signal);
    const int failure = pthread_sigmask(SIG_BLOCK, &set_, &before_);
    if (failure != 0) ThrowErrno(failure, "pthread_sigmask", "supervisor");
  }
  ~SupervisorSignals() { (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SupervisorSignals(const SupervisorSignals&) = delete;
  SupervisorSignals& operator=(const SupervisorSignals&) = delete;

  // The next signal, or 0 after so many seconds.
  int Wait(double seconds) const {
    const double whole = std::floor(seconds);
    const timespec limit = {.tv_sec = static_cast<time_t>(whole),
                            .tv_nsec = static_cast<long>((seconds - whole) * 1e9)};
    const int signal = sigtimedwait(&set_, nullptr, &limit);
    if (signal < 0 && errno != EAGAIN && errno != EINTR) {
      ThrowErrno(errno, "sigtimedwait", "supervisor");
    }
    return std::max(signal, 0);
  }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

// The processes whose parent is this one.
std::vector<pid_t> Children() {
  std::vector<pid_t> children;
  std::ifstream list(fmt::format("/proc/self/task/{}/children", gettid()));
  for (pid_t child = 0; list >> child;) children.push_back(child);
  return children;
}

// Kills what a start left behind. Orphans are this process's children, as it is a subreaper.
void EndWhatIsLeft(pid_t group) {
  (void)kill(-group, SIGKILL);  // fails where the group is gone
  for (int round = 0; round < 500; ++round) {
    const std::vector<pid_t> children = Children();
    if (children.empty()) return;
    for (const pid_t child : children) {
      (void)kill(child, SIGKILL);
      (void)waitpid(child, nullptr, WNOHANG);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  Throw(ErrorKind::kInternal, "supervisor", "processes of the last start cannot be killed");
}

class Supervisor {
 public:
  Supervisor(const std::vector<std::string>& words, const std::string& run_dir,
             const RestartPolicy& policy)
      : words_(words), run_dir_(run_dir), policy_(policy) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) ThrowErrno(errno, "prctl", "supervisor");
  }

  int Run() {
    for (int start = 1;; ++start) {
      const int64_t before = NewestIteration();
      const Clock::time_point begin = Clock::now();
      const int status = RunOnce();
      // 1 is mpirun's own, of a daemon or a host that it lost.
      if (asked_to_stop_ || status == kExitOk || status == kExitUsage ||
          status == kExitInterrupted) {
        return status;
      }
      const int64_t after = NewestIteration();
      const bool progress = after > before;
      if (progress) set_aside_.reset();  // what came after is newer
      fruitless_ = progress ? 0 : fruitless_ + 1;
      Say(fmt::format("start {} ended with status {} after {:.0f} s, {}", start, status,
                      SecondsSince(begin),
                      progress    ? fmt::format("saved up to iteration {}", after)
                      : after > 0 ? fmt::format("nothing new saved since iteration {}", after)
                                  : "nothing saved"));
      if (fruitless_ == kFruitlessStarts) return GiveUp(status, "the same will happen again");
      if (start > policy_.max_restarts) {
        return GiveUp(status, fmt::format("{} restarts were allowed", policy_.max_restarts));
      }
      if (fruitless_ == kFruitlessStarts - 1) SetNewestAside();
      if (!BackOff()) return status;
    }
  }

 private:
  int64_t NewestIteration() const {
    const std::vector<CheckpointInfo> all = ListCheckpoints(run_dir_);
    const auto newest = std::find_if(all.rbegin(), all.rend(), [](const CheckpointInfo& info) {
      return info.state == CheckpointState::kCommitted;
    });
    return newest == all.rend() ? 0 : newest->iteration;
  }

  int RunOnce() {
    const pid_t child = StartProcessGroup(words_);
    int status = 0;
    while (true) {
      const pid_t done = waitpid(child, &status, WNOHANG);
      if (done < 0 && errno != EINTR) ThrowErrno(errno, "waitpid", words_[0]);
      if (done == child) break;
      // A second's limit: SIGCHLD of two children can be one signal.
      Forward(child, signals_.Wait(1));
    }
    EndWhatIsLeft(child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  void Forward(pid_t child, int signal) {
    if (signal == 0 || signal == SIGCHLD) return;
    const bool at_once = asked_to_stop_ && signal == SIGINT;
    asked_to_stop_ = true;
    (void)kill(child, at_once ? SIGTERM : SIGUSR1);  // fails where it has just ended
  }

  // Where an older checkpoint is good, it may get past what the newest leads to.
  void SetNewestAside() {
    const std::vector<CheckpointInfo> all = ListCheckpoints(run_dir_);
    const CheckpointInfo* newest = nullptr;
    int good = 0;
    for (const CheckpointInfo& info : all) {
      if (info.state != CheckpointState::kCommitted) continue;
      newest = &info;
      ++good;
    }
    if (good < 2) return;
    QuarantineCheckpoint(newest->path);
    set_aside_ = newest->path;
    Say(fmt::format("{} led to the same failure twice: set aside, the one before is next",
                    newest->path));
  }

  int GiveUp(int status, const std::string& reason) {
    if (set_aside_) {
      ReleaseCheckpoint(*set_aside_);
      Say(fmt::format("an older checkpoint fails too: {} is given back", *set_aside_));
    }
    Say(fmt::format("given up after {} starts without progress: {} (status {})", fruitless_, reason,
                    status));
    return status;
  }

  // False when asked to stop meanwhile.
  bool BackOff() {
    const double seconds =
        std::min(policy_.longest_backoff_seconds,
                 policy_.first_backoff_seconds * std::exp2(std::max(0, fruitless_ - 1)));
    Say(fmt::format("starting again in {:g} s", seconds));
    const Clock::time_point begin = Clock::now();
    while (SecondsSince(begin) < seconds) {
      const int signal = signals_.Wait(std::max(0.0, seconds - SecondsSince(begin)));
      if (signal != 0 && signal != SIGCHLD) return false;
    }
    return true;
  }

  const std::vector<std::string>& words_;
  const std::string& run_dir_;
  const RestartPolicy& policy_;
  const SupervisorSignals signals_;
  bool asked_to_stop_ = false;
  int fruitless_ = 0;  // starts in a row without progress
  std::optional<std::string> set_aside_;
};

}  // namespace

int Supervise(const std::vector<std::string>& words, const std::string& run_dir,
              const RestartPolicy& policy) {
  return Supervisor(words, run_dir, policy).Run();
}

}  // namespace cairn
