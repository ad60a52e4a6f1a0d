#include "launcher/stop_signal.h"

#include <pthread.h>
#include <signal.h>

#include <ctime>

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
  listener_ = std::thread([this] { Listen(); });
}

StopSignal::~StopSignal() {
  ending_ = true;
  // Fails only for a thread that has ended, and this one waits for just that.
  (void)pthread_kill(listener_.native_handle(), SIGUSR1);
  listener_.join();
  const sigset_t set = StopSignals();
  // A signal that came after the last question was about a run that has ended.
  const timespec at_once{};
  while (sigtimedwait(&set, nullptr, &at_once) > 0) {
  }
  // Fails only for a wrong argument.
  (void)pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void StopSignal::Listen() {
  const sigset_t set = StopSignals();
  for (;;) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (ending_) return;
    if (requested_ && signal == SIGINT) {
      (void)pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
      (void)raise(SIGINT);
    }
    requested_ = true;
  }
}

}  // namespace cairn
