#pragma once

#include <nccl.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "machine.h"

namespace cairn::fake {

/// What several ranks do together; it happens when all have come.
struct Meeting {
  struct Part {
    bool called = false;
    bool arrived = false;                   // its stream has come to it
    std::shared_ptr<const bool> aborted{};  // then its memory may be gone
    const void* from = nullptr;
    void* to = nullptr;
  };
  std::string signature;  // what must agree
  int caller = -1;        // whose signature it is
  std::vector<Part> parts;
  std::function<void(std::vector<Part>&)> move;
  bool done = false;

  bool Called() const { return std::ranges::all_of(parts, &Part::called); }
  bool Arrived() const {
    return std::ranges::all_of(parts, [](const Part& p) { return p.arrived && !*p.aborted; });
  }
};

struct Group {
  std::string name;
  int size = 0;
  bool broken = false;  // by a rank's abort, of which the others are told
  std::vector<std::shared_ptr<Meeting>> collectives;
  std::map<std::pair<int, int>, std::vector<std::shared_ptr<Meeting>>> messages;  // by (from, to)
  std::vector<std::shared_ptr<Meeting>> recorded;               // collectives, in captures
  std::vector<std::shared_ptr<Meeting>> host_meetings;          // init, split, finalize
  std::map<std::pair<int, int>, std::shared_ptr<Group>> parts;  // by (split, color)
  std::map<int, std::vector<std::pair<int, int>>> colors;       // by split: color and key by rank
};

}  // namespace cairn::fake

struct ncclComm {
  std::shared_ptr<cairn::fake::Group> group;
  int rank = 0;
  size_t collectives = 0;
  size_t recorded = 0;  // collectives
  size_t host_meetings = 0;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
  std::map<std::tuple<int, int, bool>, size_t> messages;      // by (from, to, whether it sends)
  std::shared_ptr<bool> last = std::make_shared<bool>(true);  // done
  std::byte order;  // "written" by each operation: what the race checker orders them by
  std::shared_ptr<ncclComm> self;  // held by a graph's operations, too, until they are done

  bool InGraphs() const { return self.use_count() > 1; }
};

namespace cairn::fake {

/// One call of a rank.
struct Call {
  ncclComm* comm;
  std::string what;
  std::string signature;
  std::optional<std::pair<int, int>> message;  // from, to; none: a collective
  int part;
  const void* from;
  void* to;
  std::vector<Access> accesses;
  std::function<void(std::vector<Meeting::Part>&)> move;
  Stream* stream;
};

/// The meeting number `index` of `list`, in which this rank is `part`.
std::shared_ptr<Meeting> Meet(std::vector<std::shared_ptr<Meeting>>& list, size_t index, int parts,
                              int part, int rank, const std::string& group,
                              const std::string& signature);

/// Gives the calls, all of one communicator and stream, as one operation, or records them.
ncclResult_t Issue(std::unique_lock<std::mutex>& lock, const std::vector<Call>& calls);

}  // namespace cairn::fake
