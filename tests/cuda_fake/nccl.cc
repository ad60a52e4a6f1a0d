// NCCL between the fake GPUs, as strict as it may be: a call on a new communicator, or the first to
// a peer, holds its host until the others have made theirs; operations of a communicator run in the
// order of their calls; a message waits for its receiver. In a capture a collective holds its host
// until the others have recorded theirs (NCCL may tell them where its buffers are), and what makes
// connections may not be recorded. A communicator lives as long as a graph holds its operations.

#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nccl_calls.h"

using cairn::fake::Call;
using cairn::fake::Group;
using cairn::fake::Issue;
using cairn::fake::Machine;
using cairn::fake::Meet;
using cairn::fake::Meeting;

namespace {

// What one ncclGroupStart ... ncclGroupEnd of the thread has gathered.
thread_local int group_depth = 0;
thread_local std::vector<Call> grouped;

size_t SizeOf(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 4;
  }
}

Machine& Gpu() { return Machine::Get(); }

template <typename T>
void Accumulate(std::byte* into, const std::byte* from, size_t count, ncclRedOp_t op) {
  auto* const a = reinterpret_cast<T*>(into);
  const auto* const b = reinterpret_cast<const T*>(from);
  for (size_t i = 0; i < count; ++i) a[i] = op == ncclSum ? T(a[i] + b[i]) : std::max(a[i], b[i]);
}

// Kernels compute nothing: 16-bit sums are the first rank's.
std::vector<std::byte> Reduced(const std::vector<Meeting::Part>& parts, size_t count,
                               ncclDataType_t type, ncclRedOp_t op) {
  const std::byte* const first = Gpu().Bytes(parts[0].from);
  std::vector<std::byte> sum(first, first + count * SizeOf(type));
  for (size_t r = 1; r < parts.size(); ++r) {
    const std::byte* const from = Gpu().Bytes(parts[r].from);
    if (type == ncclFloat32) Accumulate<float>(sum.data(), from, count, op);
    if (type == ncclFloat64) Accumulate<double>(sum.data(), from, count, op);
    if (type == ncclInt32) Accumulate<int32_t>(sum.data(), from, count, op);
    if (type == ncclInt64) Accumulate<int64_t>(sum.data(), from, count, op);
    if (type == ncclUint8) Accumulate<uint8_t>(sum.data(), from, count, op);
  }
  return sum;
}

ncclResult_t IssueOrGather(std::unique_lock<std::mutex>& lock, Call call) {
  if (call.stream == nullptr) return ncclInvalidArgument;
  if (group_depth > 0) {
    grouped.push_back(std::move(call));
    return ncclSuccess;
  }
  std::vector<Call> calls;
  calls.push_back(std::move(call));
  return Issue(lock, std::move(calls));
}

struct Operands {
  const void* from;
  size_t from_bytes;
  void* to;
  size_t to_bytes;
};

ncclResult_t Collective(const char* verb, const std::string& detail, const Operands& operands,
                        ncclComm_t comm, cudaStream_t stream,
                        std::function<void(std::vector<Meeting::Part>&)> move) {
  auto lock = Gpu().Lock();
  return IssueOrGather(lock,
                       {.comm = comm,
                        .what = verb,
                        .signature = fmt::format("{}({})", verb, detail),
                        .message = std::nullopt,
                        .part = comm->rank,
                        .from = operands.from,
                        .to = operands.to,
                        .accesses = {{operands.from, operands.from_bytes, false},
                                     {operands.to, operands.to_bytes, true}},
                        .move = std::move(move),
                        .stream = Gpu().FindStream(reinterpret_cast<uintptr_t>(stream), verb)});
}

ncclResult_t Message(bool sends, const void* memory, size_t count, ncclDataType_t type, int peer,
                     ncclComm_t comm, cudaStream_t stream) {
  auto lock = Gpu().Lock();
  const auto ends = sends ? std::pair(comm->rank, peer) : std::pair(peer, comm->rank);
  const size_t bytes = count * SizeOf(type);
  return IssueOrGather(
      lock,
      {.comm = comm,
       .what = fmt::format("{} {}", sends ? "Send to" : "Recv from", peer),
       .signature = fmt::format("a message {}->{} of {} x type {}", ends.first, ends.second, count,
                                static_cast<int>(type)),
       .message = ends,
       .part = sends ? 0 : 1,
       .from = memory,
       .to = const_cast<void*>(memory),
       .accesses = {{memory, bytes, !sends}},
       .move =
           [bytes](std::vector<Meeting::Part>& parts) {
             std::memcpy(Gpu().Bytes(parts[1].to), Gpu().Bytes(parts[0].from), bytes);
           },
       .stream = Gpu().FindStream(reinterpret_cast<uintptr_t>(stream), "ncclSend or ncclRecv")});
}

// All ranks of the group come here with their hosts.
bool MeetHosts(std::unique_lock<std::mutex>& lock, ncclComm& comm, const std::string& what) {
  const std::shared_ptr<Meeting> meeting =
      Meet(comm.group->host_meetings, comm.host_meetings++, comm.group->size, comm.rank, comm.rank,
           comm.group->name, what);
  Gpu().Changed();
  const std::shared_ptr<bool> aborted = comm.aborted;  // the communicator may be gone
  return Gpu().WaitUntil(lock, fmt::format("{} on {}", what, comm.group->name), [&] {
    return meeting->Called() || *aborted;
  }) && !*aborted;
}

ncclComm* NewComm(std::shared_ptr<Group> group, int rank) {
  const auto comm = std::make_shared<ncclComm>();
  comm->self = comm;
  comm->group = std::move(group);
  comm->rank = rank;
  ++Gpu().communicators;
  return comm.get();
}

std::map<std::string, std::shared_ptr<Group>>& Worlds() {
  static auto* const worlds = new std::map<std::string, std::shared_ptr<Group>>;
  return *worlds;
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(ncclResult_t code) {
  return code == ncclRemoteError ? "remote process exited or there was a network error"
                                 : "the fake NCCL's report says more";
}
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetVersion(int* version) {
  const auto lock = Gpu().Lock();
  *version = Gpu().behaviour().nccl_version;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const auto lock = Gpu().Lock();
  static int64_t next = 0;
  std::memset(id->internal, 0, sizeof(id->internal));
  const int64_t number = ++next;
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  auto lock = Gpu().Lock();
  std::shared_ptr<Group>& world = Worlds()[{id.internal, sizeof(id.internal)}];
  if (world == nullptr) {
    world = std::make_shared<Group>();
    world->name = "world";
    world->size = size;
  }
  *comm = NewComm(world, rank);
  return MeetHosts(lock, **comm, "ncclCommInitRank") ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
  auto lock = Gpu().Lock();
  Group& group = *comm->group;
  const auto split = static_cast<int>(comm->host_meetings);
  auto& colors = group.colors[split];
  colors.resize(static_cast<size_t>(group.size));
  colors[static_cast<size_t>(comm->rank)] = {color, key};
  if (!MeetHosts(lock, *comm, "ncclCommSplit")) return ncclSystemError;
  *part = nullptr;
  if (color == NCCL_SPLIT_NOCOLOR) return ncclSuccess;
  std::vector<std::pair<int, int>> members;  // (key, rank)
  for (size_t r = 0; r < colors.size(); ++r) {
    if (colors[r].first == color) members.emplace_back(colors[r].second, static_cast<int>(r));
  }
  std::ranges::sort(members);
  std::shared_ptr<Group>& made = group.parts[{split, color}];
  if (made == nullptr) {
    made = std::make_shared<Group>();
    made->name = fmt::format("part {} (color {}) of {}", split, color, group.name);
    made->size = static_cast<int>(members.size());
  }
  const auto own = std::ranges::find(members, std::pair(key, comm->rank));
  *part = NewComm(made, static_cast<int>(own - members.begin()));
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  auto lock = Gpu().Lock();
  const std::shared_ptr<bool> last = comm->last;
  if (comm->InGraphs()) {
    Gpu().Problem(fmt::format("ncclCommFinalize of {}, whose operations a graph holds: it waits",
                              comm->group->name));
  }
  const bool well = Gpu().WaitUntil(lock, "ncclCommFinalize", [&] { return *last; }) &&
                    MeetHosts(lock, *comm, "ncclCommFinalize");
  return well ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const auto lock = Gpu().Lock();
  --Gpu().communicators;
  const std::shared_ptr<ncclComm> last = std::move(comm->self);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  auto lock = Gpu().Lock();
  *comm->aborted = true;
  if (Gpu().behaviour().tells_of_aborts) {
    comm->group->broken = true;
    Gpu().aborts = true;
  }
  --Gpu().communicators;
  Gpu().Changed();
  (void)Gpu().WaitUntil(lock, "ncclCommAbort, for graphs that hold its operations",
                        [&] { return !comm->InGraphs(); });
  const std::shared_ptr<ncclComm> last = std::move(comm->self);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const auto lock = Gpu().Lock();
  *state = Gpu().network_broken || comm->group->broken ? ncclRemoteError : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  return Collective(
      "AllReduce",
      fmt::format("{} x type {}, op {}", count, static_cast<int>(type), static_cast<int>(op)),
      {from, bytes, to, bytes}, comm, stream, [=](auto& parts) {
        const std::vector<std::byte> sum = Reduced(parts, count, type, op);
        for (auto& part : parts) {
          std::memcpy(Gpu().Bytes(part.to), sum.data(), bytes);
        }
      });
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  return Collective("AllGather", fmt::format("{} x type {}", count, static_cast<int>(type)),
                    {from, bytes, to, bytes * static_cast<size_t>(comm->group->size)}, comm, stream,
                    [=](auto& parts) {
                      std::vector<std::byte> all;
                      for (auto& part : parts) {
                        const std::byte* const own = Gpu().Bytes(part.from);
                        all.insert(all.end(), own, own + bytes);
                      }
                      for (auto& part : parts)
                        std::memcpy(Gpu().Bytes(part.to), all.data(), all.size());
                    });
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  const auto size = static_cast<size_t>(comm->group->size);
  return Collective(
      "ReduceScatter",
      fmt::format("{} x type {}, op {}", count, static_cast<int>(type), static_cast<int>(op)),
      {from, bytes * size, to, bytes}, comm, stream, [=](auto& parts) {
        const std::vector<std::byte> sum = Reduced(parts, count * size, type, op);
        for (size_t r = 0; r < size; ++r) {
          std::memcpy(Gpu().Bytes(parts[r].to), sum.data() + r * bytes, bytes);
        }
      });
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * SizeOf(type);
  return Collective(
      "Broadcast", fmt::format("{} x type {}, root {}", count, static_cast<int>(type), root),
      {from, comm->rank == root ? bytes : 0, to, bytes}, comm, stream, [=](auto& parts) {
        const std::byte* const source = Gpu().Bytes(parts[static_cast<size_t>(root)].from);
        for (auto& part : parts) {
          if (Gpu().Bytes(part.to) != source) std::memcpy(Gpu().Bytes(part.to), source, bytes);
        }
      });
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Message(true, from, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Message(false, to, count, type, peer, comm, stream);
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0) return ncclSuccess;
  auto lock = Gpu().Lock();
  return Issue(lock, std::exchange(grouped, {}));
}

}  // extern "C"
