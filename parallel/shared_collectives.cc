#include "parallel/shared_collectives.h"

#include <glog/logging.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <limits>
#include <utility>
#include <vector>

#include "parallel/reduction.h"

namespace cairn {
namespace {

// Of a rank's part. Two of them by all ranks of a host stay in its last cache.
constexpr size_t kChunkBytes = size_t{256} << 10;
constexpr size_t kPageBytes = 4096;
// How often a rank looks whether the others came, giving its core to them in between, before it
// naps; and after how many looks it sees to its messages.
constexpr int kLooks = 200;
constexpr int kLooksPerProgress = 20;
constexpr timespec kNap = {.tv_sec = 0, .tv_nsec = 500'000};

// Not the private kind: the word is in memory of several processes.
void NapWhile(std::atomic<uint32_t>& word, uint32_t value) {
  // Returns at once where the word has another value, and may return for no reason: callers look.
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &kNap, nullptr, 0);
}

void WakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

void CopyBytes(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

}  // namespace

// At the beginning of the memory, all zero at first.
struct SharedCollectives::Meeting {
  alignas(64) std::atomic<uint32_t> arrived;
  alignas(64) std::atomic<uint32_t> round;
  std::atomic<uint32_t> sleepers;
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

size_t SharedCollectives::MemoryBytes(int size) { return kPageBytes + 2 * kChunkBytes * size; }

SharedCollectives::SharedCollectives(std::byte* memory, int rank, int size,
                                     FlightRecorder& recorder, std::function<void()> progress)
    : meeting_(reinterpret_cast<Meeting*>(memory)),
      parts_(memory + kPageBytes),
      rank_(rank),
      size_(size),
      recorder_(recorder),
      progress_(std::move(progress)) {
  static_assert(sizeof(Meeting) <= kPageBytes);
}

std::byte* SharedCollectives::Part(int rank) const {
  return parts_ + (2 * static_cast<size_t>(rank) + chunk_ % 2) * kChunkBytes;
}

void SharedCollectives::Meet() {
  const FlightRecorder::Wait wait(recorder_);
  const uint32_t round = meeting_->round.load(std::memory_order_acquire);
  if (meeting_->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 ==
      static_cast<uint32_t>(size_)) {
    meeting_->arrived.store(0, std::memory_order_relaxed);
    meeting_->round.store(round + 1);  // in one order with `sleepers`: no sleeper is missed
    if (meeting_->sleepers.load() > 0) WakeAll(meeting_->round);
    return;
  }
  for (int look = 0; look < kLooks; ++look) {
    if (meeting_->round.load(std::memory_order_acquire) != round) return;
    if (look % kLooksPerProgress == kLooksPerProgress - 1) progress_();
    sched_yield();
  }
  meeting_->sleepers.fetch_add(1);
  while (meeting_->round.load() == round) {
    NapWhile(meeting_->round, round);
    progress_();
  }
  meeting_->sleepers.fetch_sub(1);
}

void SharedCollectives::AllReduce(std::byte* data, int64_t count, DType dtype, ReduceOp op) {
  const size_t element = DTypeSize(dtype);
  const auto chunk = static_cast<int64_t>(kChunkBytes / element);
  std::vector<const void*> sources(size_);
  for (int64_t start = 0; start < count; start += chunk, ++chunk_) {
    const int64_t length = std::min(chunk, count - start);
    std::byte* const mine = data + start * element;
    const auto begin = [&](int rank) { return length * rank / size_ * element; };
    CopyBytes(Part(rank_), mine, length * element);
    Meet();
    // Nobody else touches this slice of any part.
    for (int r = 0; r < size_; ++r) sources[r] = Part(r) + begin(rank_);
    const size_t bytes = begin(rank_ + 1) - begin(rank_);
    if (bytes > 0) {
      ReduceInOrder(Part(rank_) + begin(rank_), sources, static_cast<int64_t>(bytes / element),
                    dtype, op);
    }
    Meet();
    for (int r = 0; r < size_; ++r) {
      CopyBytes(mine + begin(r), Part(r) + begin(r), begin(r + 1) - begin(r));
    }
  }
}

void SharedCollectives::ReduceScatter(std::byte* out, const std::byte* in, int64_t count,
                                      DType dtype) {
  const size_t element = DTypeSize(dtype);
  const auto chunk = static_cast<int64_t>(kChunkBytes / (element * size_));
  CHECK_GT(chunk, 0);
  std::vector<const void*> sources(size_);
  for (int64_t start = 0; start < count; start += chunk, ++chunk_) {
    const int64_t length = std::min(chunk, count - start);
    for (int r = 0; r < size_; ++r) {
      CopyBytes(Part(rank_) + r * length * element, in + (r * count + start) * element,
                length * element);
    }
    Meet();
    for (int r = 0; r < size_; ++r) sources[r] = Part(r) + rank_ * length * element;
    ReduceInOrder(out + start * element, sources, length, dtype, ReduceOp::kSum);
  }
}

void SharedCollectives::AllGather(std::byte* out, const std::byte* in, size_t bytes) {
  for (size_t start = 0; start < bytes; start += kChunkBytes, ++chunk_) {
    const size_t length = std::min(kChunkBytes, bytes - start);
    CopyBytes(Part(rank_), in + start, length);
    Meet();
    for (int r = 0; r < size_; ++r) {
      const std::byte* part = r == rank_ ? in + start : Part(r);
      CopyBytes(out + r * bytes + start, part, length);
    }
  }
}

}  // namespace cairn
