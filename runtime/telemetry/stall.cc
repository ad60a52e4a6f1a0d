#include "runtime/telemetry/stall.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace cairn {
namespace {

// `waiting` is in `operation`, to which `awaited` has not come.
struct Wait {
  int waiting;
  int awaited;
  const FlightOperation* operation;
  std::string reason;  // what the awaited rank did instead, where its record tells
};

// The operation of `record` that stands at `sequence` among the collectives of `group`.
const FlightOperation* FindCollective(const FlightRecord& record, const FlightGroup& group,
                                      int64_t sequence) {
  for (const FlightOperation& operation : record.operations) {
    if (&record.groups[operation.group] == &group && operation.peer < 0 &&
        operation.sequence == sequence) {
      return &operation;
    }
  }
  return nullptr;
}

class Detective {
 public:
  explicit Detective(const StallEvidence& evidence) : evidence_(evidence) {
    for (const auto& record : evidence.records) {
      if (!record) continue;
      for (const FlightOperation& operation : record->operations) {
        if (operation.running) FindWaits(*record, operation);
      }
    }
  }

  StallVerdict Conclude() const {
    StallVerdict verdict;
    verdict.suspects = Suspects();
    for (const int rank : verdict.suspects) {
      if (!verdict.text.empty()) verdict.text += "\n";
      verdict.text += Accuse(rank);
    }
    return verdict;
  }

 private:
  bool Answers(int rank) const {
    return rank >= 0 && rank < static_cast<int>(evidence_.records.size()) &&
           evidence_.records[rank].has_value();
  }

  void FindWaits(const FlightRecord& record, const FlightOperation& operation) {
    const FlightGroup& group = record.groups[operation.group];
    if (operation.verb == "Send") return;  // waits for nobody
    if (operation.peer >= 0) return FindSender(record, operation);
    for (const int member : group.ranks) {
      if (member == record.rank) continue;
      const FlightGroup* theirs =
          Answers(member) ? evidence_.records[member]->FindGroup(record, operation.group) : nullptr;
      if (theirs == nullptr || theirs->collectives < operation.sequence) {
        waits_.push_back({record.rank, member, &operation, ""});
        continue;
      }
      const FlightOperation* other =
          FindCollective(*evidence_.records[member], *theirs, operation.sequence);
      if (other != nullptr && other->verb != operation.verb) {
        waits_.push_back({record.rank, member, &operation,
                          fmt::format("it called {} instead",
                                      DescribeOperation(*evidence_.records[member], *other))});
      }
    }
  }

  void FindSender(const FlightRecord& record, const FlightOperation& operation) {
    const int sender = operation.peer;
    const FlightGroup* theirs =
        Answers(sender) ? evidence_.records[sender]->FindGroup(record, operation.group) : nullptr;
    const auto sent = theirs == nullptr                     ? int64_t{0}
                      : theirs->sends.contains(record.rank) ? theirs->sends.at(record.rank)
                                                            : int64_t{0};
    if (sent < operation.sequence) waits_.push_back({record.rank, sender, &operation, ""});
  }

  // Whoever is waited for and does not wait; else everybody in the circle.
  std::vector<int> Suspects() const {
    std::set<int> waiting;
    std::set<int> awaited;
    for (const Wait& wait : waits_) {
      waiting.insert(wait.waiting);
      awaited.insert(wait.awaited);
    }
    std::vector<int> idle;
    std::ranges::set_difference(awaited, waiting, std::back_inserter(idle));
    return idle.empty() ? std::vector<int>(awaited.begin(), awaited.end()) : idle;
  }

  std::string Accuse(int rank) const {
    // The wait that has lasted longest says most.
    const Wait* worst = nullptr;
    std::set<int> victims;
    for (const Wait& wait : waits_) {
      if (wait.awaited != rank) continue;
      victims.insert(wait.waiting);
      if (worst == nullptr || wait.operation->seconds > worst->operation->seconds) worst = &wait;
    }
    const FlightRecord& witness = *evidence_.records[worst->waiting];
    std::string text =
        fmt::format("rank {} ({}) never reached {}, in which rank {} has waited for {:.1f} s; ",
                    rank, evidence_.hosts.at(rank), DescribeOperation(witness, *worst->operation),
                    worst->waiting, worst->operation->seconds);
    if (victims.size() > 1) {
      victims.erase(worst->waiting);
      text += fmt::format("so do{} {}; ", victims.size() == 1 ? "es rank" : " ranks",
                          fmt::join(victims, ", "));
    }
    return text + (worst->reason.empty() ? Whereabouts(rank) : worst->reason);
  }

  std::string Whereabouts(int rank) const {
    if (!Answers(rank)) return "it does not answer: it is stopped, or its host is gone";
    const FlightRecord& record = *evidence_.records[rank];
    if (const FlightOperation* running = record.LongestRunning()) {
      return fmt::format("it has been in {} for {:.1f} s", DescribeOperation(record, *running),
                         running->seconds);
    }
    if (record.operations.empty()) return "it has not communicated at all";
    return fmt::format("it computes, or hangs, since its last operation, {}",
                       DescribeOperation(record, record.operations.back()));
  }

  const StallEvidence& evidence_;
  std::vector<Wait> waits_;
};

}  // namespace

std::string DescribeOperation(const FlightRecord& record, const FlightOperation& operation) {
  const FlightGroup& group = record.groups[operation.group];
  std::string text = fmt::format("{} #{}", operation.verb, operation.sequence);
  if (operation.peer >= 0) {
    text += fmt::format(" {} rank {} on {}", operation.verb == "Send" ? "to" : "from",
                        operation.peer, group.name);
  } else {
    text += fmt::format(" of {} [{}]", group.name, fmt::join(group.ranks, ","));
  }
  text += fmt::format(" (iteration {}", operation.iteration);
  if (operation.microbatch >= 0) text += fmt::format(", microbatch {}", operation.microbatch);
  return text + ")";
}

StallVerdict ExplainStall(const StallEvidence& evidence) { return Detective(evidence).Conclude(); }

}  // namespace cairn
