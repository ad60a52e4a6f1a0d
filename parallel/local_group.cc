#include "parallel/local_group.h"

#include "runtime/base/error.h"

namespace cairn {

void LocalWorld::Abort(const std::string& reason) {
  std::vector<std::weak_ptr<LocalGroup>> groups;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) return;
    reason_ = reason;
    aborted_ = true;
    groups = groups_;
  }
  for (const std::weak_ptr<LocalGroup>& weak : groups) {
    if (const std::shared_ptr<LocalGroup> group = weak.lock()) group->Wake();
  }
}

std::string LocalWorld::reason() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return reason_;
}

void LocalWorld::Register(const std::shared_ptr<LocalGroup>& group) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(groups_, [](const std::weak_ptr<LocalGroup>& weak) { return weak.expired(); });
  groups_.push_back(group);
}

std::shared_ptr<LocalGroup> LocalGroup::New(std::shared_ptr<LocalWorld> world, std::string name,
                                            int size) {
  std::shared_ptr<LocalGroup> group(new LocalGroup(std::move(world), std::move(name), size));
  group->world_->Register(group);
  return group;
}

LocalGroup::LocalGroup(std::shared_ptr<LocalWorld> world, std::string name, int size)
    : world_(std::move(world)), name_(std::move(name)), calls_(size), left_(size) {}

std::span<const LocalCall> LocalGroup::Open(int rank, const LocalCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto ended = [&] { return first_left_ >= 0 || world_->aborted(); };
  if (ended()) ThrowEnded(call.verb, first_left_);
  calls_[rank] = call;
  if (++arrived_ == static_cast<int>(calls_.size())) {
    mismatch_ = DescribeMismatch();
    arrived_ = 0;
    ++round_;
    changed_.notify_all();
  } else {
    const int64_t round = round_;
    changed_.wait(lock, [&] { return round_ != round || ended(); });
    if (round_ == round) {
      // The round can never be completed: later arrivals see the same end.
      --arrived_;
      ThrowEnded(call.verb, first_left_);
    }
  }
  if (!mismatch_.empty()) {
    throw Error(ErrorKind::kCommunication, fmt::format("{} on {}", call.verb, name_), mismatch_);
  }
  return calls_;
}

void LocalGroup::Close() noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  if (++arrived_ == static_cast<int>(calls_.size())) {
    arrived_ = 0;
    ++round_;
    changed_.notify_all();
  } else {
    changed_.wait(lock, [&, round = round_] { return round_ != round; });
  }
}

void LocalGroup::Send(int from, int to, std::vector<std::byte> bytes, DType dtype) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (world_->aborted()) ThrowEnded("Send", -1);
  mailboxes_[{from, to}].push_back({std::move(bytes), dtype});
  changed_.notify_all();
}

std::vector<std::byte> LocalGroup::Receive(int from, int to, size_t bytes, DType dtype) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::deque<Message>& mailbox = mailboxes_[{from, to}];
  changed_.wait(lock, [&] { return !mailbox.empty() || left_[from] || world_->aborted(); });
  if (mailbox.empty() || world_->aborted()) ThrowEnded("Recv", from);
  Message message = std::move(mailbox.front());
  mailbox.pop_front();
  if (message.bytes.size() != bytes || message.dtype != dtype) {
    Throw(ErrorKind::kCommunication, fmt::format("Recv on {}", name_),
          "rank {} sent {} bytes of {}; rank {} expects {} bytes of {}", from, message.bytes.size(),
          DTypeName(message.dtype), to, bytes, DTypeName(dtype));
  }
  return std::move(message.bytes);
}

void LocalGroup::Leave(int rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  left_[rank] = true;
  if (first_left_ < 0) first_left_ = rank;
  changed_.notify_all();
}

void LocalGroup::Wake() {
  const std::lock_guard<std::mutex> lock(mutex_);
  changed_.notify_all();
}

std::string LocalGroup::DescribeMismatch() const {
  const LocalCall& first = calls_[0];
  for (size_t rank = 1; rank < calls_.size(); ++rank) {
    const LocalCall& call = calls_[rank];
    if (std::string_view(call.verb) != first.verb || call.bytes != first.bytes ||
        call.dtype != first.dtype || call.detail != first.detail) {
      return fmt::format(
          "ranks made different calls: rank 0 {} of {} bytes of {} (variant {}), rank {} {} of {} "
          "bytes of {} (variant {})",
          first.verb, first.bytes, DTypeName(first.dtype), first.detail, rank, call.verb,
          call.bytes, DTypeName(call.dtype), call.detail);
    }
  }
  return "";
}

void LocalGroup::ThrowEnded(const char* verb, int left) const {
  const std::string place = fmt::format("{} on {}", verb, name_);
  if (world_->aborted()) throw Error(ErrorKind::kCommunication, place, world_->reason());
  Throw(ErrorKind::kCommunication, place, "rank {} has left and makes no further calls", left);
}

}  // namespace cairn
