#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace cairn {

/// Measures elapsed time on the monotonic clock; setting the system's clock has no effect.
class Stopwatch {
 public:
  void Restart() { start_ = Clock::now(); }
  std::chrono::nanoseconds Elapsed() const { return Clock::now() - start_; }
  double ElapsedSeconds() const { return std::chrono::duration<double>(Elapsed()).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

/// Time spent waiting for one thing (data, communication), added up over all threads.
class WaitClock {
 public:
  void Add(std::chrono::nanoseconds wait) {
    nanoseconds_.fetch_add(wait.count(), std::memory_order_relaxed);
  }
  double Seconds() const { return ToSeconds(nanoseconds_.load(std::memory_order_relaxed)); }
  /// The seconds since the last Take, in one atomic step.
  double TakeSeconds() { return ToSeconds(nanoseconds_.exchange(0, std::memory_order_relaxed)); }

 private:
  static double ToSeconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; }

  std::atomic<int64_t> nanoseconds_ = 0;
};

/// Adds the life time of this object to a clock.
class ScopedWait {
 public:
  explicit ScopedWait(WaitClock& clock) : clock_(clock) {}
  ScopedWait(const ScopedWait&) = delete;
  ScopedWait& operator=(const ScopedWait&) = delete;
  ~ScopedWait() { clock_.Add(watch_.Elapsed()); }

 private:
  WaitClock& clock_;
  Stopwatch watch_;
};

}  // namespace cairn
