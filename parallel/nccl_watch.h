#pragma once

#include <nccl.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/nccl_call.h"
#include "runtime/device/stream.h"
#include "runtime/telemetry/flight_recorder.h"
#include "runtime/tensor/tensor.h"

namespace cairn {

/// What a communicator has given to the GPU and that may not be done yet: keeps its tensors, and
/// the recorder's operations open. Any thread.
class NcclFlights {
 public:
  NcclFlights(FlightRecorder& recorder, int group) : recorder_(&recorder), group_(group) {}

  /// An operation of the recorder, from now on.
  std::unique_ptr<FlightRecorder::Scope> Begin(const char* verb, int64_t bytes, int peer) {
    return std::make_unique<FlightRecorder::Scope>(*recorder_, group_, verb, bytes, peer);
  }
  /// It ends when `done` happens. `kept` are tensors that must live until then.
  void Add(Event done, std::unique_ptr<FlightRecorder::Scope> scope, std::vector<Tensor> kept);
  /// Lets go of what is done.
  void Reap();

 private:
  struct Flight {
    Event done;
    std::unique_ptr<FlightRecorder::Scope> scope;
    std::vector<Tensor> kept;
  };

  FlightRecorder* recorder_;
  int group_;
  std::mutex mutex_;
  std::deque<Flight> flights_;
};

/// Looks after all communicators of a rank from a thread of its own; see NewNcclCommunicator.
class NcclWatch {
 public:
  /// `give_up` ends the job, given a reason.
  NcclWatch(std::shared_ptr<const Nccl> nccl, std::function<void(const std::string&)> give_up);
  ~NcclWatch();
  NcclWatch(const NcclWatch&) = delete;
  NcclWatch& operator=(const NcclWatch&) = delete;

  /// From here to Remove() the communicator is looked after; after Fail() it is aborted.
  void Add(ncclComm_t comm, const std::string& name, NcclFlights& flights);
  /// False if it was aborted, and so must not be destroyed. Waits for aborts, but not for ever: the
  /// error that led here is still to be told.
  bool Remove(ncclComm_t comm);

  /// A call that gives NCCL a communicator, until it has returned. NCCL frees what it aborts, so
  /// that Fail() waits for calls; not for ever, since one may be waiting for a peer that is gone,
  /// which only an abort ends. Throws as Check() does.
  class Call {
   public:
    Call(NcclWatch& watch, const char* verb, const std::string& group);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    NcclWatch* watch_;
  };

  /// Aborts all communicators and remembers why. An abort returns when no graph holds an operation
  /// of the communicator any more: nobody waits for that here, nor for one before another. The job
  /// is given up only if it has not ended of itself some seconds later: the reason is then told by
  /// the rank that knows it best.
  void Fail(const std::string& reason);
  /// Throws Error(kCommunication) once Fail() was called.
  void Check(const char* verb, const std::string& group) const;
  bool failed() const { return failed_; }

 private:
  struct Watched {
    ncclComm_t comm;
    std::string name;
    NcclFlights* flights;
  };
  /// Of threads of their own, which may outlive all else.
  struct Aborts {
    std::mutex mutex;
    std::condition_variable changed;
    int running = 0;
    bool hang = false;  // found out: nobody waits again
  };

  void CheckLocked(const char* verb, const std::string& group) const;
  void BeginAbort(const Watched& watched);
  /// Until all aborts are through, or for as long as they may take.
  void AwaitAborts();
  void Loop();
  /// What is wrong with any of them; empty: nothing.
  std::string Look();

  std::shared_ptr<const Nccl> nccl_;
  std::function<void(const std::string&)> give_up_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Watched> watched_;
  std::string reason_;
  std::atomic<bool> failed_ = false;
  bool aborting_ = false;  // after failed_: an abort of each communicator has begun
  std::shared_ptr<Aborts> aborts_;
  int calls_ = 0;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when the rest exists
};

}  // namespace cairn
