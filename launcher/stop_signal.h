#pragma once

namespace cairn {

/// Turns SIGINT, SIGTERM and SIGUSR1 into a question the training loop asks: a launcher or a
/// scheduler that wants the run to end gets a clean save first. The signals are blocked while this
/// lives (threads made meanwhile inherit that) and read from a descriptor, so no code runs in a
/// handler.
class StopSignal {
 public:
  /// Throws Error(kIo).
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// True from the first signal on. Does not wait. A second SIGINT gets its default effect.
  bool Requested();

 private:
  int descriptor_ = -1;
  bool requested_ = false;
};

}  // namespace cairn
