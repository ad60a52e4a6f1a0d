#include "parallel/nccl_watch.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/device/cuda_device.h"

namespace cairn {
namespace {

// A failed peer is noticed within this time; the calls cost microseconds.
constexpr auto kPause = std::chrono::milliseconds(100);
// A call returns in far less, unless it waits for a peer.
constexpr auto kLongestCall = std::chrono::seconds(1);
// An abort returns in far less, once the graphs that hold its operations are gone.
constexpr auto kLongestAbort = std::chrono::seconds(10);
// A rank whose NCCL failed tells so and ends the job in less than this, unless its host hangs.
constexpr auto kPatience = std::chrono::seconds(10);

}  // namespace

void NcclFlights::Add(Event done, std::unique_ptr<FlightRecorder::Scope> scope,
                      std::vector<Tensor> kept) {
  const std::lock_guard<std::mutex> lock(mutex_);
  flights_.push_back({std::move(done), std::move(scope), std::move(kept)});
}

void NcclFlights::Reap() {
  // Tensors and operations are let go of when the lock is no longer held.
  std::deque<Flight> landed;
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!flights_.empty() && HasHappened(flights_.front().done)) {
    landed.push_back(std::move(flights_.front()));
    flights_.pop_front();
  }
}

NcclWatch::NcclWatch(std::shared_ptr<const Nccl> nccl,
                     std::function<void(const std::string&)> give_up)
    : nccl_(std::move(nccl)),
      give_up_(std::move(give_up)),
      aborts_(std::make_shared<Aborts>()),
      thread_([this] { Loop(); }) {}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  AwaitAborts();
}

void NcclWatch::Add(ncclComm_t comm, const std::string& name, NcclFlights& flights) {
  const std::lock_guard<std::mutex> lock(mutex_);
  watched_.push_back({comm, name, &flights});
  if (aborting_) BeginAbort(watched_.back());
}

bool NcclWatch::Remove(ncclComm_t comm) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return !failed_ || aborting_; });
  std::erase_if(watched_, [&](const Watched& watched) { return watched.comm == comm; });
  if (!failed_) return true;
  lock.unlock();
  AwaitAborts();
  return false;
}

void NcclWatch::AwaitAborts() {
  std::unique_lock<std::mutex> lock(aborts_->mutex);
  if (aborts_->changed.wait_for(lock, kLongestAbort,
                                [&] { return aborts_->running == 0 || aborts_->hang; })) {
    return;
  }
  aborts_->hang = true;
  LOG(ERROR) << "NCCL has not ended " << aborts_->running << " aborts";
}

NcclWatch::Call::Call(NcclWatch& watch, const char* verb, const std::string& group)
    : watch_(&watch) {
  const std::lock_guard<std::mutex> lock(watch.mutex_);
  watch.CheckLocked(verb, group);
  ++watch.calls_;
}

NcclWatch::Call::~Call() {
  {
    const std::lock_guard<std::mutex> lock(watch_->mutex_);
    --watch_->calls_;
  }
  watch_->changed_.notify_all();
}

void NcclWatch::Fail(const std::string& reason) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (failed_.exchange(true)) return;  // no call begins from here on
  reason_ = reason;
  changed_.wait_for(lock, kLongestCall, [&] { return calls_ == 0; });
  for (const Watched& watched : watched_) BeginAbort(watched);
  aborting_ = true;
  changed_.notify_all();
}

void NcclWatch::BeginAbort(const Watched& watched) {
  const auto count = [aborts = aborts_](int change) {
    const std::lock_guard<std::mutex> lock(aborts->mutex);
    aborts->running += change;
    aborts->changed.notify_all();
  };
  count(1);
  try {
    std::thread([nccl = nccl_, comm = watched.comm, count] {
      (void)nccl->comm_abort(comm);  // its result says nothing that the reason does not
      count(-1);
    }).detach();
  } catch (const std::exception& error) {
    // Nobody may wait for an abort here: the end of the process must do for it.
    count(-1);
    LOG(ERROR) << "no thread to abort NCCL on " << watched.name << ": " << error.what();
  }
}

void NcclWatch::Check(const char* verb, const std::string& group) const {
  if (!failed_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  CheckLocked(verb, group);
}

void NcclWatch::CheckLocked(const char* verb, const std::string& group) const {
  if (!failed_) return;
  throw Error(ErrorKind::kCommunication, fmt::format("nccl {} on {}", verb, group), reason_);
}

std::string NcclWatch::Look() {
  for (const Watched& watched : watched_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t code = nccl_->comm_get_async_error(watched.comm, &state);
    try {
      nccl_->Check(code, "CommGetAsyncError", watched.name, watched.comm);
      if (state != ncclInProgress) nccl_->Check(state, "operation", watched.name, watched.comm);
      watched.flights->Reap();
    } catch (const Error& error) {
      return error.what();
    }
  }
  return "";
}

void NcclWatch::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, kPause, [&] { return stopping_; })) {
    if (failed_) continue;
    const std::string wrong = Look();
    if (wrong.empty()) continue;
    lock.unlock();
    Fail(wrong);
    lock.lock();
    if (changed_.wait_for(lock, kPatience, [&] { return stopping_; })) return;
    lock.unlock();
    give_up_(wrong);
    lock.lock();
  }
}

}  // namespace cairn
