#include "launcher/stop_signal.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/base/error.h"

namespace cairn {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  return set;
}

}  // namespace

StopSignal::StopSignal() {
  const sigset_t set = StopSignals();
  const int blocked = pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (blocked != 0) ThrowErrno(blocked, "pthread_sigmask", "stop signals");
  descriptor_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (descriptor_ < 0) ThrowErrno(errno, "signalfd", "stop signals");
}

StopSignal::~StopSignal() {
  // A signal that came after the last question was about a run that has ended.
  signalfd_siginfo info{};
  while (read(descriptor_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
  }
  close(descriptor_);
  const sigset_t set = StopSignals();
  // Fails only for a wrong argument.
  (void)pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

bool StopSignal::Requested() {
  signalfd_siginfo info{};
  while (read(descriptor_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (requested_ && info.ssi_signo == SIGINT) {
      const sigset_t set = StopSignals();
      (void)pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
      (void)raise(SIGINT);
    }
    requested_ = true;
  }
  return requested_;
}

}  // namespace cairn
