#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>
#include <thread>

namespace cairn {

/// Adds up what each op of the CPU takes. It counts on the thread that made it, which is the one
/// that trains; an op that another one calls is part of that. Ops of a GPU are not counted: the
/// host would measure their launch.
class OpClock {
 public:
  struct Total {
    int64_t calls = 0;
    std::chrono::nanoseconds time{0};
  };

  /// The time of one op, from its construction to its end. `clock` may be null; `op` is a literal.
  class Scope {
   public:
    Scope(OpClock* clock, std::string_view op) : clock_(clock), op_(op) {
      if (clock_ == nullptr) return;
      if (std::this_thread::get_id() != clock_->owner_ || clock_->busy_) {
        clock_ = nullptr;
        return;
      }
      clock_->busy_ = true;
      start_ = Clock::now();
    }
    ~Scope() {
      if (clock_ == nullptr) return;
      Total& total = clock_->totals_[op_];
      ++total.calls;
      total.time += Clock::now() - start_;
      clock_->busy_ = false;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    OpClock* clock_;
    std::string_view op_;
    std::chrono::steady_clock::time_point start_;
  };

  /// By the ops' names.
  const std::map<std::string_view, Total>& totals() const { return totals_; }
  void Reset() { totals_.clear(); }

 private:
  using Clock = std::chrono::steady_clock;

  const std::thread::id owner_ = std::this_thread::get_id();
  bool busy_ = false;  // read and written by the owner only
  std::map<std::string_view, Total> totals_;
};

}  // namespace cairn
