#pragma once

#include <atomic>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

namespace cairn::testing {

/// A block of plain threads in the place of a GPU's (CudaBlock).
class ThreadBlock {
 public:
  /// body(block) by `threads` threads at once.
  template <typename Body>
  static void Run(int64_t threads, const Body& body) {
    Shared shared(threads);
    std::vector<std::jthread> all;
    for (int64_t thread = 0; thread < threads; ++thread) {
      all.emplace_back([&shared, &body, thread] { body(ThreadBlock(shared, thread)); });
    }
  }

  int64_t thread() const { return thread_; }
  int64_t threads() const { return static_cast<int64_t>(shared_->numbers.size()); }
  void barrier() const { shared_->barrier.arrive_and_wait(); }

  template <typename Op>
  float combine(float mine, float neutral, const Op& op) const {
    shared_->numbers[static_cast<size_t>(thread_)] = mine;
    barrier();
    float result = neutral;
    for (const float number : shared_->numbers) result = op(result, number);
    barrier();
    return result;
  }

  void atomic_add(double* to, double value) const { std::atomic_ref(*to).fetch_add(value); }

 private:
  struct Shared {
    explicit Shared(int64_t threads) : barrier(threads), numbers(static_cast<size_t>(threads)) {}
    std::barrier<> barrier;
    std::vector<float> numbers;
  };

  ThreadBlock(Shared& shared, int64_t thread) : shared_(&shared), thread_(thread) {}

  Shared* shared_;
  int64_t thread_;
};

}  // namespace cairn::testing
