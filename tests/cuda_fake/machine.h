#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "fake_gpu.h"

namespace cairn::fake {

/// By stream: how many of its operations are known to have ended (a vector clock).
using Clock = std::vector<uint64_t>;

void Join(Clock& clock, const Clock& other);
inline uint64_t At(const Clock& clock, size_t stream) {
  return stream < clock.size() ? clock[stream] : 0;
}

/// Memory that an operation uses.
struct Access {
  const void* memory;
  size_t bytes;  ///< kToEnd: of the allocation
  bool writes;
};
inline constexpr size_t kToEnd = SIZE_MAX;

struct Capture;

/// What one cudaEventRecord captured.
struct Record {
  int stream = 0;
  uint64_t time = 0;
  Clock clock;
  std::shared_ptr<Capture> capture{};  ///< into a graph: it never happens by itself
};

/// What a stream does, in its order.
struct Operation {
  std::string what;
  uint64_t time = 0;
  std::function<bool()> ready;               ///< null: once it is the stream's next
  std::function<void()> run;                 ///< null: nothing moves
  std::function<std::string()> waits_for{};  ///< why it is not ready
};

struct Stream;

/// What a capture recorded, in order.
struct Graph {
  /// The records that one launch makes, by those that the capture made.
  using Records = std::map<const Record*, std::shared_ptr<Record>>;
  struct Node {
    int stream;  ///< that it was recorded from
    std::function<void(Stream&, Records&)> give;
    std::vector<Access> accesses;
  };
  int origin = 0;  ///< the stream whose capture it was
  std::vector<Node> nodes;
  /// Of a graph that can be launched: what carries the work of each stream but the origin.
  std::map<int, uintptr_t> branches{};
};

/// Work between cudaStreamBeginCapture and its end, of that stream and those that events drew in.
struct Capture {
  Graph graph;
  std::map<int, Clock> clocks;  ///< by stream: how many nodes of each its next one comes after
  bool ended = false;
};

struct Stream {
  int id = 0;
  int device = 0;
  std::string name;
  bool destroyed = false;
  Clock clock;  // of what is given next
  uint64_t executed = 0;
  std::deque<Operation> queue;
  std::shared_ptr<Capture> capture{};  // while it records
};

/// All GPUs of the process: what they were given, in which order it must have happened, and what is
/// wrong with that. An operation runs as late as it can: when a host waits. A copy to the host
/// arrives when the thread that gave it has waited for it; until then there are NaNs. All members
/// need lock().
class Machine {
 public:
  static Machine& Get();

  std::unique_lock<std::mutex> Lock() { return std::unique_lock(mutex_); }

  // Tests.
  void Begin(int devices, const Behaviour& behaviour);
  std::vector<std::string> End();
  int64_t Calls(int device, const std::string& call) const;
  void Enter(int rank);
  void Leave();

  // The host.
  int devices() const { return devices_; }
  int& current_device();
  /// Counts a call of the current device's host; false if it is to be left out.
  bool Counted(const char* call);
  void Problem(const std::string& problem);
  /// Nothing moves any more: those that wait return.
  void Stop();
  bool stopped() const { return stopped_; }

  // Memory.
  void* Allocate(size_t bytes, bool on_device);
  void Free(void* memory);
  /// Where the bytes of an address are; the host's own address where it is no GPU's.
  std::byte* Bytes(const void* memory);
  bool OnDevice(const void* memory);

  // Streams and events.
  uintptr_t NewStream(const std::string& name = "");
  void DestroyStream(uintptr_t handle);
  /// Null (and a problem) if there is none.
  Stream* FindStream(uintptr_t handle, const char* call);
  uintptr_t NewEvent();
  void DestroyEvent(uintptr_t handle);
  /// The event's record; null where none was made. `*known` is false (and a problem) if there is no
  /// such event.
  std::shared_ptr<Record>* FindEvent(uintptr_t handle, const char* call);
  std::shared_ptr<Record> RecordOn(Stream& stream);
  void WaitOn(Stream& stream, const std::shared_ptr<Record>& record);
  /// Instead of a wait that is left out.
  void DoNotWaitOn(const Stream& stream) { omitted_on_ = stream.id; }
  const std::string& omitted_before() const { return omitted_before_; }

  // Graphs.
  /// False (and a problem) if it captures already.
  bool BeginCapture(Stream& stream);
  /// The graph's handle; 0 if nothing was recorded (and a problem), or if a stream that was drawn
  /// in has work that the first one has not waited for: its name.
  uintptr_t EndCapture(Stream& stream, std::string* unjoined);
  /// Another handle, that can be launched; 0 if there is no such graph.
  uintptr_t Instantiate(uintptr_t graph);
  bool LaunchGraph(uintptr_t handle, Stream& stream);
  void DestroyGraph(uintptr_t handle, const char* call);
  /// A problem, and true, if `stream` records: then `call` is not allowed.
  bool Refused(const Stream& stream, const char* call);
  /// Adds what `stream`, which records, is given: `what`.
  void RecordNode(Stream& stream, const std::string& what,
                  std::function<void(Stream&, Graph::Records&)> give, std::vector<Access> accesses);

  /// Gives `operation`, whose accesses are checked against all that came before.
  void Give(Stream& stream, Operation operation, const std::vector<Access>& accesses);
  /// The copy's bytes reach the host's memory when its giver has waited.
  void Land(const Stream& stream, void* to, std::shared_ptr<std::vector<std::byte>> bytes);

  /// The calling thread waits until `done`, while streams move. False: that cannot be.
  bool WaitUntil(std::unique_lock<std::mutex>& lock, const std::string& what,
                 const std::function<bool()>& done);
  bool Executed(const Record& record);
  /// Waits for the record, and knows it then.
  bool WaitForRecord(std::unique_lock<std::mutex>& lock, const std::string& what,
                     const Record& record);
  /// Whether a host that asks is told that it has happened.
  bool Tell(const Record& record);
  /// All streams of the device.
  bool WaitForDevice(std::unique_lock<std::mutex>& lock, const std::string& what);
  void Changed() { changed_.notify_all(); }

  const Behaviour& behaviour() const { return behaviour_; }

  /// Counts NCCL communicators, which must be given back as well.
  int communicators = 0;
  bool network_broken = false;
  bool aborts = false;  // some communicator was aborted, and its ranks were told

  /// An operation of NCCL, told by its address, is on a GPU from here to Vacate: false while it
  /// does not fit beside those that are.
  bool Occupy(int device, const void* operation);
  void Vacate(int device, const void* operation);

 private:
  struct Use {
    uintptr_t begin;
    uintptr_t end;
    bool writes;
    int stream;
    uint64_t time;
    std::string what;
  };
  struct Allocation {
    size_t bytes = 0;
    int device = -1;  // of pinned memory: -1
    std::unique_ptr<std::byte, decltype(&std::free)> contents{nullptr, std::free};
    std::vector<Use> uses;
  };
  struct Landing {
    int stream;
    uint64_t time;
    void* to;
    std::shared_ptr<std::vector<std::byte>> bytes;
  };
  struct Host {
    uint64_t generation = 0;
    int device = 0;
    int rank = -1;
    Clock clock;
  };
  struct Blocked {
    int rank;
    std::string what;
    const std::function<bool()>* done;
  };

  Host& host();
  void Know(const Clock& clock);
  std::pair<const uintptr_t, Allocation>* FindAllocation(const void* memory);
  /// False if it cannot be done.
  bool Check(const Stream& stream, const Operation& operation, const Access& access);
  void Pump();
  /// What comes on a stream, if that is what an omission asks for. Further waits are not.
  void NextIs(const Stream& stream, const std::string& what);
  /// Of what runs, whether or not the stream records.
  std::shared_ptr<Record> RecordGiven(Stream& stream);
  void WaitInCapture(Stream& stream, const std::shared_ptr<Record>& record);
  bool Deadlocked() const;
  void ReportStandstill(const std::string& title);
  Stream& StreamOf(int id) { return *streams_[id]; }

  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t generation_ = 0;
  int devices_ = 0;
  Behaviour behaviour_;
  std::minstd_rand random_;
  int omitted_on_ = -1;  // the stream
  std::string omitted_before_;
  std::map<std::pair<int, std::string>, int64_t> calls_;
  std::vector<std::string> problems_;
  std::set<std::string> known_problems_;
  bool stopped_ = false;
  std::map<uintptr_t, Allocation> allocations_;
  // Of the host's own memory, by device and rank: what passes between ranks, malloc orders.
  std::map<std::pair<int, int>, std::vector<Use>> pageable_uses_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::map<uintptr_t, std::shared_ptr<Record>> events_;
  uintptr_t next_event_ = 1;
  std::map<uintptr_t, Graph> graphs_;  // to be instantiated, and to be launched
  uintptr_t next_graph_ = 1;
  std::list<Landing> landings_;
  std::map<int, std::set<const void*>> occupants_;  // by device
  std::set<int> ranks_;
  std::list<Blocked> blocked_;
  uint64_t moves_ = 0;  // operations given and executed
};

}  // namespace cairn::fake
