#pragma once

#include <atomic>
#include <thread>

namespace cairn {

/// Turns SIGINT, SIGTERM and SIGUSR1 into a question the training loop asks: a launcher or a
/// scheduler that wants the run to end gets a clean save first. The signals are blocked while this
/// lives (threads made meanwhile inherit that) and waited for by a thread of its own, so no code
/// runs in a handler.
class StopSignal {
 public:
  /// Throws Error(kIo).
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// True from the first signal on. Does not wait. A second one, if it is SIGINT, ends the process
  /// at once, whatever the training loop is busy with or waiting for.
  bool Requested() const { return requested_; }

 private:
  void Listen();

  std::atomic<bool> requested_ = false;
  std::atomic<bool> ending_ = false;
  std::thread listener_;
};

}  // namespace cairn
