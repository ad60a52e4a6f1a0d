#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/tensor/dtype.h"

namespace cairn {

class LocalGroup;

/// What all groups of one RunLocalRanks share: whether their communication was ended, and why.
class LocalWorld {
 public:
  /// The first reason is kept. Wakes the ranks that wait, in every group.
  void Abort(const std::string& reason);
  bool aborted() const { return aborted_; }
  std::string reason() const;
  void Register(const std::shared_ptr<LocalGroup>& group);

 private:
  std::atomic<bool> aborted_ = false;
  mutable std::mutex mutex_;
  std::string reason_;
  std::vector<std::weak_ptr<LocalGroup>> groups_;
};

/// What a rank brings to a collective call. All but `data` must agree over the ranks.
struct LocalCall {
  const char* verb = "";
  size_t bytes = 0;
  DType dtype = DType::kUInt8;
  int detail = 0;  ///< reduction or root
  const void* data = nullptr;
};

/// Ranks that are threads: a meeting point, and a mailbox for each pair.
class LocalGroup {
 public:
  static std::shared_ptr<LocalGroup> New(std::shared_ptr<LocalWorld> world, std::string name,
                                         int size);

  const std::shared_ptr<LocalWorld>& world() const { return world_; }

  /// Waits until every rank has brought its call, and returns them by rank; they and what they
  /// point to stay until Close(). Throws Error(kCommunication), in every rank, when the calls
  /// differ, when a rank left, or after Abort.
  std::span<const LocalCall> Open(int rank, const LocalCall& call);
  /// Waits until every rank is done with the calls. Even Abort does not end this wait, so that
  /// nobody frees memory that a peer is reading; peers do nothing that blocks in between.
  void Close() noexcept;

  void Send(int from, int to, std::vector<std::byte> bytes, DType dtype);
  /// Waits for the next message. Throws like Open, and when its size or dtype is another.
  std::vector<std::byte> Receive(int from, int to, size_t bytes, DType dtype);

  /// `rank` makes no further calls.
  void Leave(int rank);
  /// Lets those that wait look at the world again.
  void Wake();

 private:
  struct Message {
    std::vector<std::byte> bytes;
    DType dtype;
  };

  LocalGroup(std::shared_ptr<LocalWorld> world, std::string name, int size);

  // The caller holds the lock.
  std::string DescribeMismatch() const;
  /// Because of Abort, else because the rank `left` did.
  [[noreturn]] void ThrowEnded(const char* verb, int left) const;

  const std::shared_ptr<LocalWorld> world_;
  const std::string name_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Ranks come to Open and Close alternately; each time that all have come starts a new round.
  int64_t round_ = 0;
  int arrived_ = 0;
  std::vector<LocalCall> calls_;  // by rank; written in Open, read by all until Close
  std::string mismatch_;          // verdict of the last round of Open
  std::vector<bool> left_;
  int first_left_ = -1;
  std::map<std::pair<int, int>, std::deque<Message>> mailboxes_;  // by (from, to)
};

}  // namespace cairn
