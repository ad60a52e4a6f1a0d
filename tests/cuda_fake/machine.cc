#include "machine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <utility>

namespace cairn::fake {
namespace {

// Ranks may be busy, or wait for each other elsewhere, without any GPU's moving; not this long.
constexpr auto kStandstill = std::chrono::seconds(30);
constexpr size_t kMostProblems = 20;

uintptr_t Address(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

}  // namespace

void Join(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

// Never destroyed: threads of the backend may outlive main.
Machine& Machine::Get() {
  static Machine* const machine = new Machine;
  return *machine;
}

void Machine::Begin(int devices, const Behaviour& behaviour) {
  ++generation_;
  devices_ = devices;
  behaviour_ = behaviour;
  random_.seed(behaviour.seed);
  omitted_on_ = -1;
  omitted_before_.clear();
  occupants_.clear();
  calls_.clear();
  problems_.clear();
  known_problems_.clear();
  stopped_ = false;
  for (auto& [address, allocation] : allocations_) {
    if (allocation.device >= 0) munmap(reinterpret_cast<void*>(address), allocation.bytes);
  }
  allocations_.clear();
  pageable_uses_.clear();
  streams_.clear();
  events_.clear();
  graphs_.clear();
  landings_.clear();
  ranks_.clear();
  communicators = 0;
  network_broken = false;
  aborts = false;
}

std::vector<std::string> Machine::End() {
  if (!stopped_) {
    for (const auto& stream : streams_) {
      if (!stream->destroyed) Problem(fmt::format("{} was never destroyed", stream->name));
      if (stream->capture) Problem(fmt::format("the capture of {} was never ended", stream->name));
      if (!stream->queue.empty() && !stream->destroyed) {
        Problem(fmt::format("{} has not done {}", stream->name, stream->queue.front().what));
      }
    }
    for (const auto& [address, allocation] : allocations_) {
      Problem(fmt::format(
          "{} bytes of {} were never freed", allocation.bytes,
          allocation.device < 0 ? "pinned memory" : fmt::format("cuda:{}", allocation.device)));
    }
    if (!events_.empty()) Problem(fmt::format("{} events were never destroyed", events_.size()));
    if (!graphs_.empty()) Problem(fmt::format("{} graphs were never destroyed", graphs_.size()));
    if (communicators != 0) {
      Problem(fmt::format("{} NCCL communicators were never destroyed", communicators));
    }
    for (const Landing& landing : landings_) {
      Problem(fmt::format("no host waited for a copy on {}", streams_[landing.stream]->name));
    }
  }
  return std::exchange(problems_, {});
}

int64_t Machine::Calls(int device, const std::string& call) const {
  const auto found = calls_.find({device, call});
  return found == calls_.end() ? 0 : found->second;
}

Machine::Host& Machine::host() {
  thread_local Host state;
  if (state.generation != generation_) state = Host{.generation = generation_, .clock = {}};
  return state;
}

void Machine::Enter(int rank) {
  host().rank = rank;
  ranks_.insert(rank);
}

void Machine::Leave() {
  ranks_.erase(std::exchange(host().rank, -1));
  if (Deadlocked()) ReportStandstill("deadlock");  // the others may have waited for this one
}

int& Machine::current_device() { return host().device; }

bool Machine::Counted(const char* call) {
  const int64_t index = calls_[{host().device, call}]++;
  const Omission& omission = behaviour_.omission;
  if (host().device != omission.device || call != omission.call || index != omission.index) {
    return true;
  }
  // If the wait is one for copies, their memory may soon be something else's: they never arrive.
  std::erase_if(landings_, [&](const Landing& landing) {
    return StreamOf(landing.stream).device == host().device;
  });
  return false;
}

void Machine::Problem(const std::string& problem) {
  if (problems_.size() < kMostProblems && known_problems_.insert(problem).second) {
    problems_.push_back(problem);
  }
}

void Machine::Stop() {
  stopped_ = true;
  Changed();
}

// A GPU's memory is an address that the host cannot touch, and bytes elsewhere.
void* Machine::Allocate(size_t bytes, bool on_device) {
  void* address = mmap(nullptr, bytes, on_device ? PROT_NONE : PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  Allocation& allocation = allocations_[Address(address)];
  allocation.bytes = bytes;
  if (on_device) {
    allocation.device = host().device;
    // Zeros, whose pages are nobody's until they are touched.
    allocation.contents.reset(static_cast<std::byte*>(std::calloc(bytes, 1)));
  }
  return address;
}

void Machine::Free(void* memory) {
  const auto found = allocations_.find(Address(memory));
  if (found == allocations_.end()) {
    return Problem("cudaFree of what is no allocation, or no more");
  }
  const bool used = std::ranges::any_of(graphs_, [&](const auto& graph) {
    return std::ranges::any_of(graph.second.nodes, [&](const Graph::Node& node) {
      return std::ranges::any_of(node.accesses, [&](const Access& access) {
        return FindAllocation(access.memory) == &*found;
      });
    });
  });
  if (used) Problem("cudaFree of memory that a graph uses");
  munmap(memory, found->second.bytes);
  allocations_.erase(found);
}

std::pair<const uintptr_t, Machine::Allocation>* Machine::FindAllocation(const void* memory) {
  auto found = allocations_.upper_bound(Address(memory));
  if (found == allocations_.begin()) return nullptr;
  --found;
  return Address(memory) < found->first + found->second.bytes ? &*found : nullptr;
}

bool Machine::OnDevice(const void* memory) {
  const auto* found = FindAllocation(memory);
  return found != nullptr && found->second.device >= 0;
}

std::byte* Machine::Bytes(const void* memory) {
  const auto* found = FindAllocation(memory);
  if (found == nullptr || found->second.device < 0) {
    return static_cast<std::byte*>(const_cast<void*>(memory));
  }
  return found->second.contents.get() + (Address(memory) - found->first);
}

uintptr_t Machine::NewStream(const std::string& name) {
  const int device = host().device;
  const auto same = std::ranges::count(streams_, device, [](const auto& s) { return s->device; });
  auto& stream = streams_.emplace_back(std::make_unique<Stream>());
  stream->id = static_cast<int>(streams_.size()) - 1;
  stream->device = device;
  stream->name = name.empty() ? fmt::format("stream {} of cuda:{}", same, device) : name;
  return streams_.size();
}

Stream* Machine::FindStream(uintptr_t handle, const char* call) {
  if (handle == 0 || handle > streams_.size() || streams_[handle - 1]->destroyed) {
    Problem(fmt::format("{} with a stream that {}", call,
                        handle == 0 ? "is the default one" : "was destroyed"));
    return nullptr;
  }
  Stream* const stream = streams_[handle - 1].get();
  if (stream->device != host().device && host().rank >= 0) {
    Problem(fmt::format("{} with {} while cuda:{} is current", call, stream->name, host().device));
  }
  return stream;
}

void Machine::DestroyStream(uintptr_t handle) {
  Stream* const stream = FindStream(handle, "cudaStreamDestroy");
  if (stream != nullptr) stream->destroyed = true;
}

uintptr_t Machine::NewEvent() {
  events_[next_event_] = nullptr;
  return next_event_++;
}

void Machine::DestroyEvent(uintptr_t handle) {
  if (events_.erase(handle) == 0) Problem("cudaEventDestroy of what is no event, or no more");
}

std::shared_ptr<Record>* Machine::FindEvent(uintptr_t handle, const char* call) {
  const auto found = events_.find(handle);
  if (found != events_.end()) return &found->second;
  Problem(fmt::format("{} with an event that was destroyed", call));
  return nullptr;
}

std::shared_ptr<Record> Machine::RecordOn(Stream& stream) {
  if (!stream.capture) return RecordGiven(stream);
  auto record = std::make_shared<Record>();
  record->stream = stream.id;
  record->capture = stream.capture;
  record->clock = stream.capture->clocks[stream.id];
  stream.capture->graph.nodes.push_back({stream.id,
                                         [this, record](Stream& branch, Graph::Records& made) {
                                           made[record.get()] = RecordOn(branch);
                                         },
                                         {}});
  return record;
}

std::shared_ptr<Record> Machine::RecordGiven(Stream& stream) {
  auto record = std::make_shared<Record>();
  record->stream = stream.id;
  Join(stream.clock, host().clock);
  record->time = At(stream.clock, stream.id);
  record->clock = stream.clock;
  return record;
}

void Machine::WaitOn(Stream& stream, const std::shared_ptr<Record>& record) {
  if (record->capture) return WaitInCapture(stream, record);
  if (stream.capture) {
    return Problem(fmt::format("a capture of {} waits for an event of {} from outside", stream.name,
                               StreamOf(record->stream).name));
  }
  if (record->stream == stream.id) return;
  Give(stream,
       {.what = fmt::format("a wait for {}", StreamOf(record->stream).name),
        .ready = [this, record] { return Executed(*record); },
        .run = nullptr,
        .waits_for = [this, record] { return StreamOf(record->stream).name; }},
       {});
  Join(stream.clock, record->clock);
}

void Machine::Give(Stream& stream, Operation operation, const std::vector<Access>& accesses) {
  if (stream.capture) {
    return RecordNode(
        stream, std::string(operation.what),
        [this, operation = std::move(operation), accesses](Stream& branch, Graph::Records&) {
          Give(branch, operation, accesses);
        },
        accesses);
  }
  NextIs(stream, operation.what);
  Join(stream.clock, host().clock);
  stream.clock.resize(std::max(stream.clock.size(), streams_.size()));
  operation.time = ++stream.clock[stream.id];
  for (const Access& access : accesses) {
    if (!Check(stream, operation, access)) operation.run = nullptr;
  }
  stream.queue.push_back(std::move(operation));
  ++moves_;
  Changed();
}

void Machine::NextIs(const Stream& stream, const std::string& what) {
  if (stream.id != omitted_on_ || !omitted_before_.empty() || what.starts_with("a wait")) return;
  omitted_before_ = what;
}

bool Machine::Check(const Stream& stream, const Operation& operation, const Access& access) {
  if (access.memory == nullptr || access.bytes == 0) return true;
  auto* const found = FindAllocation(access.memory);
  const uintptr_t begin = Address(access.memory);
  uintptr_t end = begin + access.bytes;
  if (found != nullptr) {
    const uintptr_t limit = found->first + found->second.bytes;
    if (access.bytes == kToEnd) end = limit;
    if (end > limit) {
      Problem(fmt::format("{} on {} goes {} bytes past the end of its memory", operation.what,
                          stream.name, end - limit));
      return false;
    }
    if (found->second.device >= 0 && found->second.device != stream.device) {
      Problem(fmt::format("{} on {} uses memory of cuda:{}", operation.what, stream.name,
                          found->second.device));
    }
  } else if (access.bytes == kToEnd) {
    Problem(fmt::format("{} on {} uses memory that is not the GPU's (any more)", operation.what,
                        stream.name));
    return false;
  }
  std::vector<Use>& uses =
      found != nullptr ? found->second.uses : pageable_uses_[{stream.device, host().rank}];
  std::erase_if(uses, [&](const Use& use) {
    const bool ordered = At(stream.clock, use.stream) >= use.time;
    const bool overlap = use.begin < end && begin < use.end;
    if (!ordered && overlap && (use.writes || access.writes)) {
      Problem(fmt::format("race: {} {} on {} {} memory that {} on {} {}, and nothing orders them",
                          access.writes ? "the write of" : "the read of", operation.what,
                          stream.name, "uses", use.what, StreamOf(use.stream).name,
                          use.writes ? "writes" : "reads"));
    }
    // What every later use is compared with in its stead: this one, or what its giver knows.
    return (access.writes && use.begin >= begin && use.end <= end) ||
           (use.stream == stream.id && use.writes == access.writes && use.begin == begin &&
            use.end == end) ||
           At(host().clock, use.stream) >= use.time;
  });
  uses.push_back({begin, end, access.writes, stream.id, operation.time, operation.what});
  return true;
}

void Machine::Land(const Stream& stream, void* to, std::shared_ptr<std::vector<std::byte>> bytes) {
  std::memset(to, 0xff, bytes->size());
  landings_.push_back({stream.id, At(stream.clock, stream.id), to, std::move(bytes)});
}

void Machine::Know(const Clock& clock) {
  Join(host().clock, clock);
  std::erase_if(landings_, [&](const Landing& landing) {
    if (At(clock, landing.stream) < landing.time) return false;
    std::memcpy(landing.to, landing.bytes->data(), landing.bytes->size());
    return true;
  });
}

void Machine::Pump() {
  std::vector<size_t> order(streams_.size());
  std::iota(order.begin(), order.end(), 0);
  for (bool moved = true; moved && !stopped_;) {
    moved = false;
    if (behaviour_.seed != 0) std::ranges::shuffle(order, random_);
    for (const size_t s : order) {
      Stream& stream = *streams_[s];
      while (!stream.queue.empty() && !stopped_) {
        Operation& next = stream.queue.front();
        if (next.ready && !next.ready()) break;
        if (next.run) next.run();
        stream.executed = next.time;
        stream.queue.pop_front();
        moved = true;
        ++moves_;
      }
    }
    if (moved) Changed();
  }
}

bool Machine::Occupy(int device, const void* operation) {
  std::set<const void*>& occupants = occupants_[device];
  if (occupants.contains(operation)) return true;
  if (occupants.size() >= behaviour_.nccl_at_once) return false;
  occupants.insert(operation);
  return true;
}

void Machine::Vacate(int device, const void* operation) { occupants_[device].erase(operation); }

bool Machine::Executed(const Record& record) {
  return StreamOf(record.stream).executed >= record.time;
}

// Every rank waits for what will not come: those whose wait has ended may just not have run since.
// Where NCCL is broken, the backend's own watch is to end the waits.
bool Machine::Deadlocked() const {
  if (stopped_ || network_broken || aborts || ranks_.empty()) return false;
  std::set<int> waiting;
  for (const Blocked& blocked : blocked_) {
    if ((*blocked.done)()) return false;
    waiting.insert(blocked.rank);
  }
  return std::ranges::includes(waiting, ranks_) && !waiting.empty();
}

void Machine::ReportStandstill(const std::string& title) {
  std::vector<std::string> lines;
  for (const Blocked& blocked : blocked_) {
    lines.push_back(fmt::format("the host of rank {} waits in {}", blocked.rank, blocked.what));
  }
  for (const auto& stream : streams_) {
    if (stream->queue.empty()) continue;
    const Operation& next = stream->queue.front();
    lines.push_back(fmt::format("{} with {} ({} behind it) waits for {}", stream->name, next.what,
                                stream->queue.size() - 1,
                                next.waits_for ? next.waits_for() : "a host"));
  }
  Problem(fmt::format("{}:\n  {}", title, fmt::join(lines, "\n  ")));
  Stop();
}

bool Machine::WaitUntil(std::unique_lock<std::mutex>& lock, const std::string& what,
                        const std::function<bool()>& done) {
  const auto blocked = blocked_.insert(blocked_.end(), {host().rank, what, &done});
  while (!stopped_) {
    Pump();
    if (done()) break;
    if (Deadlocked()) {
      ReportStandstill("deadlock");
    } else if (const uint64_t moves = moves_;
               changed_.wait_for(lock, kStandstill) == std::cv_status::timeout && moves == moves_ &&
               !stopped_ && !done()) {
      ReportStandstill("standstill: ranks that wait for a GPU, and others that give it nothing");
    }
  }
  blocked_.erase(blocked);
  return !stopped_;
}

bool Machine::WaitForRecord(std::unique_lock<std::mutex>& lock, const std::string& what,
                            const Record& record) {
  if (!WaitUntil(lock, fmt::format("{} of {}", what, StreamOf(record.stream).name),
                 [&] { return Executed(record); })) {
    return false;
  }
  Know(record.clock);
  return true;
}

bool Machine::Tell(const Record& record) {
  if (host().rank < 0) return false;  // who orders nothing by it is told last
  if (At(host().clock, record.stream) >= record.time) return true;
  if (behaviour_.answers == Answers::kLate) return false;
  Pump();
  if (!Executed(record)) return false;
  Know(record.clock);
  return true;
}

bool Machine::WaitForDevice(std::unique_lock<std::mutex>& lock, const std::string& what) {
  for (size_t s = 0; s < streams_.size(); ++s) {
    if (streams_[s]->device != host().device) continue;
    if (!WaitForRecord(lock, what, *RecordGiven(*streams_[s]))) return false;
  }
  return true;
}

void Begin(int devices, const Behaviour& behaviour) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().Begin(devices, behaviour);
}

std::vector<std::string> End() {
  const auto lock = Machine::Get().Lock();
  return Machine::Get().End();
}

int64_t Calls(int device, const std::string& call) {
  const auto lock = Machine::Get().Lock();
  return Machine::Get().Calls(device, call);
}

std::string OmittedBefore() {
  const auto lock = Machine::Get().Lock();
  return Machine::Get().omitted_before();
}

void BreakNetwork() {
  const auto lock = Machine::Get().Lock();
  Machine::Get().network_broken = true;
  Machine::Get().Changed();
}

RankScope::RankScope(int rank) {
  const auto lock = Machine::Get().Lock();
  Machine::Get().Enter(rank);
}

RankScope::~RankScope() {
  const auto lock = Machine::Get().Lock();
  Machine::Get().Leave();
}

}  // namespace cairn::fake
