#include "runtime/device/stream.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace cairn {
namespace {

class InlineStream : public Stream {
 public:
  void Run(std::function<void()> work) override { work(); }
  Event Record() override { return Event(); }
  void Wait(const Event& event) override { event.Synchronize(); }
  void Synchronize() override {}
};

class CompletionState : public Event::State {
 public:
  void Synchronize() override {
    std::unique_lock<std::mutex> lock(mutex_);
    done_changed_.wait(lock, [&] { return done_; });
    if (error_) std::rethrow_exception(error_);
  }
  void Complete(std::exception_ptr error) {
    std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
    error_ = std::move(error);
    done_changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_changed_;
  bool done_ = false;
  std::exception_ptr error_;
};

class WorkerStream : public Stream {
 public:
  explicit WorkerStream(const std::string& name) : thread_([this] { Loop(); }) {
    // The kernel cuts thread names at 15 characters; a refused name only costs readability.
    (void)pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
  }

  ~WorkerStream() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    queue_changed_.notify_all();
    thread_.join();
  }

  void Run(std::function<void()> work) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back({std::move(work), nullptr});
    }
    queue_changed_.notify_all();
  }

  Event Record() override {
    auto state = std::make_shared<CompletionState>();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back({nullptr, state});
    }
    queue_changed_.notify_all();
    return Event(state);
  }

  void Wait(const Event& event) override {
    if (event.state()) Run([event] { event.Synchronize(); });
  }

  void Synchronize() override { Record().Synchronize(); }

 private:
  struct Item {
    std::function<void()> work;                 // either work ...
    std::shared_ptr<CompletionState> recorded;  // ... or an event to complete
  };

  void Loop() {
    for (;;) {
      Item item;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        queue_changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        item = std::move(queue_.front());
        queue_.pop_front();
      }
      if (item.recorded) {
        item.recorded->Complete(error_);
      } else if (!error_) {
        try {
          item.work();
        } catch (...) {
          error_ = std::current_exception();
        }
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable queue_changed_;
  std::deque<Item> queue_;
  bool stopping_ = false;
  std::exception_ptr error_;  // touched by the worker alone
  std::thread thread_;        // last: starts when the rest exists
};

}  // namespace

std::unique_ptr<Stream> NewInlineStream() { return std::make_unique<InlineStream>(); }

std::unique_ptr<Stream> NewWorkerStream(const std::string& name) {
  return std::make_unique<WorkerStream>(name);
}

}  // namespace cairn
