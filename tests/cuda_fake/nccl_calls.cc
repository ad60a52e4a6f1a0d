#include "nccl_calls.h"

#include <fmt/format.h>

namespace cairn::fake {
namespace {

Machine& Gpu() { return Machine::Get(); }

bool Sends(const Call& call) { return call.message && call.part == 0; }

// How many calls of its kind the communicator has had.
size_t& CountOf(const Call& call) {
  if (!call.message) return call.comm->collectives;
  return call.comm->messages[{call.message->first, call.message->second, Sends(call)}];
}

// Whether the call makes connections, for which its host waits.
bool Connects(const Call& call) {
  return CountOf(call) == 0 && (!call.message || call.message->first != call.message->second);
}

std::shared_ptr<Meeting> Join(const Call& call) {
  Group& group = *call.comm->group;
  const std::shared_ptr<Meeting> meeting =
      call.message ? Meet(group.messages[*call.message], CountOf(call)++, 2, call.part,
                          call.comm->rank, group.name, call.signature)
                   : Meet(group.collectives, CountOf(call)++, group.size, call.part,
                          call.comm->rank, group.name, call.signature);
  Meeting::Part& part = meeting->parts[static_cast<size_t>(call.part)];
  part.from = call.from;
  part.to = call.to;
  part.aborted = call.comm->aborted;
  meeting->move = call.move;
  return meeting;
}

struct Joined {
  std::shared_ptr<Meeting> meeting;
  size_t part;
};

std::string NameOf(const std::vector<Call>& calls) {
  std::string what;
  for (const Call& call : calls) {
    if (call.what != what) what += (what.empty() ? "" : " and ") + call.what;
  }
  return fmt::format("{} on {}", what, calls[0].comm->group->name);
}

std::vector<Access> AccessesOf(const std::vector<Call>& calls) {
  std::vector<Access> accesses = {{&calls[0].comm->order, 1, true}};
  for (const Call& call : calls) {
    accesses.insert(accesses.end(), call.accesses.begin(), call.accesses.end());
  }
  return accesses;
}

// Gives the calls as one operation of `stream`, which holds the communicator until it is done if a
// graph does; what it waits for.
std::vector<Joined> Enqueue(const std::vector<Call>& calls, Stream& stream,
                            std::shared_ptr<ncclComm> held) {
  std::vector<Joined> joined;
  for (const Call& call : calls) joined.push_back({Join(call), static_cast<size_t>(call.part)});
  ncclComm* const comm = calls[0].comm;
  const std::shared_ptr<bool> before = std::exchange(comm->last, std::make_shared<bool>(false));
  const auto progress = [joined, before, aborted = comm->aborted, device = stream.device,
                         own = comm->last.get()] {
    if (Gpu().network_broken || *aborted) return *aborted;  // an aborted kernel ends
    if (!*before || !Gpu().Occupy(device, own)) return false;
    bool all = true;
    for (const auto& [meeting, part] : joined) {
      meeting->parts[part].arrived = true;
      if (!meeting->done && meeting->Arrived()) {
        meeting->move(meeting->parts);
        meeting->done = true;
      }
      all = all && meeting->done;
    }
    return all;
  };
  const auto waits_for = [joined, before] {
    if (!*before) return std::string("an earlier operation of its communicator");
    if (!joined[0].meeting->parts[joined[0].part].arrived) {
      return std::string("room beside other operations of NCCL");
    }
    std::string missing;
    for (const auto& [meeting, part] : joined) {
      for (size_t p = 0; p < meeting->parts.size(); ++p) {
        if (meeting->parts[p].arrived) continue;
        missing +=
            fmt::format("{}part {} of {}, {}", missing.empty() ? "" : "; ", p, meeting->signature,
                        meeting->parts[p].called ? "behind other work" : "which nobody has called");
      }
    }
    return missing;
  };
  Gpu().Give(stream,
             {.what = NameOf(calls),
              .ready = progress,
              .run =
                  [done = comm->last, device = stream.device, held = std::move(held)] {
                    *done = true;
                    Gpu().Vacate(device, done.get());
                  },
              .waits_for = waits_for},
             AccessesOf(calls));
  return joined;
}

// Each launch makes the calls; see the top.
ncclResult_t RecordCalls(std::unique_lock<std::mutex>& lock, const std::vector<Call>& calls) {
  for (const Call& call : calls) {
    if (Connects(call)) {
      Gpu().Problem(fmt::format("{} in a capture, the first: its peers connect", NameOf(calls)));
    }
  }
  Gpu().RecordNode(
      *calls[0].stream, NameOf(calls),
      [calls, held = calls[0].comm->self](Stream& branch, auto&) { Enqueue(calls, branch, held); },
      AccessesOf(calls));
  const std::shared_ptr<bool> aborted = calls[0].comm->aborted;  // the communicator may be gone
  for (const Call& call : calls) {
    if (call.message) continue;
    Group& group = *call.comm->group;
    const auto meeting = Meet(group.recorded, call.comm->recorded++, group.size, call.part,
                              call.comm->rank, group.name, call.signature);
    Gpu().Changed();
    if (!Gpu().WaitUntil(lock, fmt::format("{} in a capture", NameOf(calls)),
                         [&] { return meeting->Called() || *aborted; }) ||
        *aborted) {
      return ncclSystemError;
    }
  }
  return ncclSuccess;
}

}  // namespace

std::shared_ptr<Meeting> Meet(std::vector<std::shared_ptr<Meeting>>& list, size_t index, int parts,
                              int part, int rank, const std::string& group,
                              const std::string& signature) {
  if (list.size() <= index) list.push_back(std::make_shared<Meeting>());
  std::shared_ptr<Meeting> meeting = list[index];
  if (meeting->caller < 0) {
    meeting->caller = rank;
    meeting->signature = signature;
    meeting->parts.resize(static_cast<size_t>(parts));
  } else if (meeting->signature != signature) {
    Gpu().Problem(fmt::format("{}, call {}: rank {} calls {}, rank {} calls {}", group, index,
                              meeting->caller, meeting->signature, rank, signature));
    Gpu().Stop();
  }
  meeting->parts[static_cast<size_t>(part)].called = true;
  return meeting;
}

ncclResult_t Issue(std::unique_lock<std::mutex>& lock, const std::vector<Call>& calls) {
  if (calls.empty()) return ncclSuccess;
  if (Gpu().stopped()) return ncclSystemError;
  Stream& stream = *calls[0].stream;
  if (std::ranges::any_of(calls, [&](const Call& call) {
        return call.comm != calls[0].comm || call.stream != &stream;
      })) {
    Gpu().Problem("a group of calls on several communicators or streams");
    return ncclInvalidUsage;
  }
  if (stream.capture) return RecordCalls(lock, calls);
  std::vector<bool> connects;
  for (const Call& call : calls) connects.push_back(Connects(call));
  const std::shared_ptr<bool> aborted = calls[0].comm->aborted;  // the communicator may be gone
  const std::vector<Joined> joined = Enqueue(calls, stream, nullptr);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (!connects[i]) continue;
    const bool well = Gpu().WaitUntil(
        lock, fmt::format("{} (the first: its peers connect)", NameOf(calls)),
        [&] { return joined[i].meeting->Called() || *aborted || Gpu().network_broken; });
    if (!well) return ncclSystemError;
  }
  return ncclSuccess;
}

}  // namespace cairn::fake
