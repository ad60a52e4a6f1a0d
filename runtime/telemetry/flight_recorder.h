#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace cairn {

/// One communication of a rank.
struct FlightOperation {
  int group = 0;     ///< index into FlightRecord::groups
  std::string verb;  ///< "AllReduce", "Recv", ...
  int peer = -1;     ///< world rank of the other end of a Send or Recv
  int64_t sequence =
      0;              ///< from 1: of the group's collectives, or of its Sends or Recvs with `peer`
  int64_t bytes = 0;  ///< of this rank's tensor
  int64_t iteration = 0;     ///< during which it began
  int64_t microbatch = -1;   ///< likewise; -1: none
  double begin_seconds = 0;  ///< since the recorder was made
  double seconds = 0;        ///< how long it took, or has taken so far
  bool running = false;      ///< not done yet
};

/// A communicator that a rank has had, and how far the rank has come in it.
struct FlightGroup {
  std::string name;                 ///< "dp", "pp-forward", ...
  std::vector<int> ranks;           ///< world ranks of its members; name and ranks identify it
  int64_t collectives = 0;          ///< begun so far
  std::map<int, int64_t> sends;     ///< begun so far, by the receiver's world rank
  std::map<int, int64_t> receives;  ///< by the sender's
};

/// What a recorder knows at one moment: RUN_DIR/flight/*/rank-00003.json.
struct FlightRecord {
  int rank = 0;
  std::vector<FlightGroup> groups;
  std::vector<FlightOperation> operations;  ///< in the order of their beginning

  /// The running operation that has taken longest; null: none runs.
  const FlightOperation* LongestRunning() const;
  /// The group that `theirs`.groups[index] is: of its name and ranks, and as many such before it,
  /// for all ranks make their groups in one order. Null: this rank is in no such group.
  const FlightGroup* FindGroup(const FlightRecord& theirs, int index) const;

  std::string ToJson() const;
  /// The inverse; anything else is an Error of kind kIo at `where`.
  static FlightRecord FromJson(std::string_view json, const std::string& where);
};

/// Remembers a rank's last communications and counts all of them, so that ranks that wait for each
/// other can be told apart from the one they wait for. One per rank, shared by its communicators;
/// any thread.
class FlightRecorder {
 public:
  explicit FlightRecorder(int rank) : rank_(rank) {}

  /// The world rank that this recorder is of.
  int rank() const { return rank_; }

  /// A communicator's identity, for Scope.
  int AddGroup(std::string name, std::vector<int> ranks);

  /// Where in training this rank is; operations that begin later carry it.
  void SetIteration(int64_t iteration) { iteration_.store(iteration, std::memory_order_relaxed); }
  void SetMicrobatch(int64_t index) { microbatch_.store(index, std::memory_order_relaxed); }

  /// An operation, from its construction to its end. `peer` is a rank of the group, or -1.
  class Scope {
   public:
    Scope(FlightRecorder& recorder, int group, const char* verb, int64_t bytes, int peer = -1);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    FlightRecorder& recorder_;
    int64_t ticket_;
  };

  /// A time in which the rank waits for others. Counts on the thread that made the recorder, which
  /// is the one that trains: what waits behind its back delays nothing.
  class Wait {
   public:
    explicit Wait(FlightRecorder& recorder) : recorder_(recorder) {}
    ~Wait() {
      if (std::this_thread::get_id() != recorder_.trainer_) return;
      recorder_.wait_ns_ += std::chrono::nanoseconds(Clock::now() - start_).count();
    }
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    FlightRecorder& recorder_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

  /// Nanoseconds spent in all Waits so far.
  int64_t wait_ns() const { return wait_ns_; }

  /// How long the longest running operation outside of the group `except` has taken, counted from
  /// `since` at the earliest; 0 if none runs.
  double LongestWaitSeconds(std::string_view except,
                            std::chrono::steady_clock::time_point since) const;

  FlightRecord Record() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Kept {
    int group;
    const char* verb;  // a literal
    int peer;
    int64_t sequence;
    int64_t bytes;
    int64_t iteration;
    int64_t microbatch;
    Clock::time_point begin;
    Clock::time_point end;
  };

  FlightOperation Describe(const Kept& kept, bool running, Clock::time_point now) const;

  const int rank_;
  const std::thread::id trainer_ = std::this_thread::get_id();
  const Clock::time_point start_ = Clock::now();
  std::atomic<int64_t> wait_ns_ = 0;
  std::atomic<int64_t> iteration_ = 0;
  std::atomic<int64_t> microbatch_ = -1;

  mutable std::mutex mutex_;
  std::vector<FlightGroup> groups_;
  int64_t next_ticket_ = 0;
  std::map<int64_t, Kept> running_;            // by ticket
  std::deque<std::pair<int64_t, Kept>> done_;  // the last ones, by ticket
};

}  // namespace cairn
