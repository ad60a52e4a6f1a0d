#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/communicator.h"

namespace cairn {

/// Ends a run in which ranks wait for one that never comes, and says which, where, and in what.
///
/// Each rank watches its own operations. One that takes long makes the rank ask by a roll-call who
/// is alive, and one that takes nearly as long as the deadline makes it declare a stall, in a file
/// that all ranks look for; every rank then writes its flight record beside it. A rank that is
/// stopped writes none. One rank compares the records (see ExplainStall) and aborts the world with
/// the verdict. A wait in a save is that for a disk and may take far longer, so long as all ranks
/// answer a roll-call; one that does not is a stall, too. Files, because a communicator whose ranks
/// hang carries no messages.
class Watchdog {
 public:
  struct Options {
    std::string directory;                  ///< of BeginFlight, the same on every rank
    double least_seconds = 10;              ///< no deadline is shorter
    double steps = 3;                       ///< the deadline in steps, where that is longer
    double first_step_seconds = 600;        ///< the deadline until a step is done
    double grace_seconds = 3;               ///< that ranks have to write their records
    std::string disk_group = "checkpoint";  ///< a group whose waits are those of a disk:
    double disk_seconds = 600;              ///< its deadline, if all ranks answer
  };

  /// Starts to watch the operations of `world` and the communicators split from it.
  Watchdog(Communicator& world, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// A step took so long: the deadline follows the slowest of the last steps.
  void StepDone(double seconds);

 private:
  using Clock = std::chrono::steady_clock;

  void Watch(const std::stop_token& stop);
  double Deadline() const;
  /// Answers a roll-call, and makes one when this rank has waited for long.
  void CallAndAnswer(double wait_seconds, Clock::time_point now);
  /// Whether a rank had so many seconds to answer the last roll-call, and did not.
  bool Missing(int rank, double seconds) const;
  /// Writes this rank's record, waits for the others', and judges unless another rank does.
  void Judge(bool declared_here);

  Communicator& world_;
  const Options options_;
  std::atomic<double> slowest_step_;
  bool measured_ = false;  // of the thread that trains
  int roll_call_ = 0;      // the last, of the thread that watches
  Clock::time_point roll_call_at_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace cairn
