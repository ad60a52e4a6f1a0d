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

void NcclFlights::Clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  flights_.clear();
}

NcclWatch::NcclWatch(std::shared_ptr<const Nccl> nccl,
                     std::function<void(const std::string&)> give_up)
    : nccl_(std::move(nccl)), give_up_(std::move(give_up)), thread_([this] { Loop(); }) {}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (std::thread& abort : aborts_) abort.join();
}

void NcclWatch::Add(ncclComm_t comm, const std::string& name, NcclFlights& flights) {
  const std::lock_guard<std::mutex> lock(mutex_);
  watched_.push_back({comm, name, &flights});
  if (aborting_) BeginAbort(watched_.back());
}

bool NcclWatch::Remove(ncclComm_t comm) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return !failed_ || (aborting_ && aborted_ == aborts_.size()); });
  std::erase_if(watched_, [&](const Watched& watched) { return watched.comm == comm; });
  return !failed_;
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
  try {
    aborts_.emplace_back([this, comm = watched.comm] {
      (void)nccl_->comm_abort(comm);  // its result says nothing that the reason does not
      const std::lock_guard<std::mutex> done(mutex_);
      ++aborted_;
      changed_.notify_all();
    });
  } catch (const std::exception& error) {
    // Nobody may wait for an abort here: the end of the process must do for it.
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
    give_up_(wrong);
    lock.lock();
  }
}

}  // namespace cairn
