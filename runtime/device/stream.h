#pragma once

#include <functional>
#include <memory>
#include <string>

namespace cairn {

/// A point in a stream's order. Copyable handle; a default one has already happened.
class Event {
 public:
  class State {
   public:
    virtual ~State() = default;
    /// Blocks the host until the work before the event is done; rethrows the error of failed work.
    virtual void Synchronize() = 0;
  };

  Event() = default;
  explicit Event(std::shared_ptr<State> state) : state_(std::move(state)) {}

  void Synchronize() const {
    if (state_) state_->Synchronize();
  }
  const std::shared_ptr<State>& state() const { return state_; }

 private:
  std::shared_ptr<State> state_;
};

/// Work that happens in the order in which it was given. Work on different streams is ordered by
/// events only.
class Stream {
 public:
  virtual ~Stream() = default;

  /// Host work in stream order. An inline stream runs it before returning.
  virtual void Run(std::function<void()> work) = 0;
  /// The event that all work given so far is done.
  virtual Event Record() = 0;
  /// Work given later starts only after `event`.
  virtual void Wait(const Event& event) = 0;
  /// Blocks the host until all work is done; rethrows the first error of this stream's work.
  virtual void Synchronize() = 0;
};

/// Runs work at once on the calling thread: the CPU's compute stream, and every stream of `meta`.
std::unique_ptr<Stream> NewInlineStream();

/// Runs work on a thread of its own: communication that overlaps computation on the CPU. After an
/// error the remaining work is dropped and every wait rethrows that error.
std::unique_ptr<Stream> NewWorkerStream(const std::string& name);

}  // namespace cairn
