#include "parallel/pipeline/verify.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <map>
#include <numeric>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {
namespace {

std::string Where(const Schedule& schedule, int rank, size_t position) {
  return fmt::format("schedule {}: rank {}, action {} ({})", schedule.name, rank, position,
                     ToString(schedule.ranks[rank][position]));
}

/// Flat index of (rank's chunk or any other row, microbatch).
size_t Cell(const Schedule& schedule, int row, int microbatch) {
  return static_cast<size_t>(row) * schedule.microbatches + microbatch;
}

/// What has been done to one microbatch on one virtual stage.
enum Done : uint8_t { kNothing = 0, kOutput = 1, kInputGradient = 2, kWeightGradient = 4 };
constexpr uint8_t kAllDone = kOutput | kInputGradient | kWeightGradient;

/// What an action needs done before it, exactly, and what it does.
struct Effect {
  uint8_t before;
  uint8_t does;
};

Effect EffectOf(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return {kNothing, kOutput};
    case ActionKind::kBackward:
      return {kOutput, kInputGradient | kWeightGradient};
    case ActionKind::kBackwardInput:
      return {kOutput, kInputGradient};
    case ActionKind::kBackwardWeight:
      return {kOutput | kInputGradient, kWeightGradient};
  }
  LOG(FATAL) << "no such action kind: " << static_cast<int>(kind);
}

bool Computes(const Action& action, Done what) { return (EffectOf(action.kind).does & what) != 0; }

const char* NameOfMissing(uint8_t done) {
  if ((done & kOutput) == 0) return "forward";
  return (done & kInputGradient) == 0 ? "backward" : "weight half of the backward";
}

void CheckFields(const Schedule& schedule, int rank, size_t position) {
  const Action& action = schedule.ranks[rank][position];
  if (action.microbatch < 0 || action.microbatch >= schedule.microbatches || action.chunk < 0 ||
      action.chunk >= schedule.chunks) {
    Throw(ErrorKind::kInternal, Where(schedule, rank, position),
          "the schedule has {} microbatches and {} chunks", schedule.microbatches, schedule.chunks);
  }
}

/// Every microbatch once through every virtual stage of `rank`, each step after what it builds on.
void CheckComplete(const Schedule& schedule, int rank) {
  std::vector<uint8_t> done(Cell(schedule, schedule.chunks, 0), kNothing);
  const std::vector<Action>& actions = schedule.ranks[rank];
  for (size_t position = 0; position < actions.size(); ++position) {
    CheckFields(schedule, rank, position);
    const Action& action = actions[position];
    const Effect effect = EffectOf(action.kind);
    uint8_t& state = done[Cell(schedule, action.chunk, action.microbatch)];
    if ((state & effect.does) != 0) {
      Throw(ErrorKind::kInternal, Where(schedule, rank, position), "this was done before");
    }
    if (state != effect.before) {
      Throw(ErrorKind::kInternal, Where(schedule, rank, position), "runs before the {}",
            NameOfMissing(state));
    }
    state |= effect.does;
  }
  for (int chunk = 0; chunk < schedule.chunks; ++chunk) {
    for (int microbatch = 0; microbatch < schedule.microbatches; ++microbatch) {
      const uint8_t state = done[Cell(schedule, chunk, microbatch)];
      if (state != kAllDone) {
        Throw(ErrorKind::kInternal, fmt::format("schedule {}: rank {}", schedule.name, rank),
              "the {} of microbatch {}, chunk {} is missing", NameOfMissing(state), microbatch,
              chunk);
      }
    }
  }
}

void CheckComplete(const Schedule& schedule) {
  if (schedule.ranks.size() != static_cast<size_t>(schedule.stages) || schedule.microbatches < 1) {
    Throw(ErrorKind::kInternal, fmt::format("schedule {}", schedule.name),
          "{} lists of actions, for {} stages and {} microbatches", schedule.ranks.size(),
          schedule.stages, schedule.microbatches);
  }
  for (int rank = 0; rank < schedule.stages; ++rank) CheckComplete(schedule, rank);
}

/// Weight gradients in ascending order of microbatches.
void CheckWeightOrder(const Schedule& schedule) {
  for (int rank = 0; rank < schedule.stages; ++rank) {
    std::vector<int> next(schedule.chunks, 0);
    const std::vector<Action>& actions = schedule.ranks[rank];
    for (size_t position = 0; position < actions.size(); ++position) {
      const Action& action = actions[position];
      if (!Computes(action, kWeightGradient)) continue;
      if (action.microbatch != next[action.chunk]) {
        Throw(ErrorKind::kInternal, Where(schedule, rank, position),
              "adds weight gradients out of order; those of microbatch {} are due",
              next[action.chunk]);
      }
      ++next[action.chunk];
    }
  }
}

/// Every message that crosses ranks is received in the order in which its channel was filled. The
/// messages of all chunks that carry `what` from one rank to another share a channel.
void CheckChannels(const Schedule& schedule, const Wiring& wiring, Done what) {
  std::map<std::pair<int, int>, std::deque<size_t>> channels;  // (from, to): positions of the sends
  for (int rank = 0; rank < schedule.stages; ++rank) {
    const std::vector<Action>& actions = schedule.ranks[rank];
    for (size_t position = 0; position < actions.size(); ++position) {
      if (!Computes(actions[position], what)) continue;
      const auto to = wiring.Destination(rank, actions[position]);
      if (to && to->rank != rank) channels[{rank, to->rank}].push_back(position);
    }
  }
  for (int rank = 0; rank < schedule.stages; ++rank) {
    const std::vector<Action>& actions = schedule.ranks[rank];
    for (size_t position = 0; position < actions.size(); ++position) {
      const Action& action = actions[position];
      if (!Computes(action, what)) continue;
      const auto from = wiring.Source(rank, action);
      if (!from || from->rank == rank) continue;  // handed over in memory, by name
      std::deque<size_t>& channel = channels[{from->rank, rank}];
      const size_t sent_at = channel.front();  // complete: as many sends as receives
      channel.pop_front();
      const Action& sent = schedule.ranks[from->rank][sent_at];
      if (sent.microbatch != action.microbatch || sent.chunk != from->chunk) {
        Throw(ErrorKind::kInternal, Where(schedule, rank, position),
              "would receive out of order: what rank {} sends by action {} ({})", from->rank,
              sent_at, ToString(sent));
      }
    }
  }
}

double Duration(const ActionCosts& costs, ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return costs.forward;
    case ActionKind::kBackward:
      return costs.backward_input + costs.backward_weight;
    case ActionKind::kBackwardInput:
      return costs.backward_input;
    case ActionKind::kBackwardWeight:
      return costs.backward_weight;
  }
  LOG(FATAL) << "no such action kind: " << static_cast<int>(kind);
}

/// Throws for a pipeline in which no rank can go on: finds the circle of ranks that wait for each
/// other. `next` is the position at which each rank stands.
[[noreturn]] void ThrowDeadlock(const Schedule& schedule, const Wiring& wiring,
                                const std::vector<size_t>& next) {
  // A waiting rank's input comes from an action that is still ahead of a rank that therefore waits
  // too: following the waits never ends, so it comes round.
  const auto waits_for = [&](int rank) {
    return wiring.Source(rank, schedule.ranks[rank][next[rank]])->rank;
  };
  int rank = 0;
  while (next[rank] == schedule.ranks[rank].size()) ++rank;
  for (int step = 0; step < schedule.stages; ++step) rank = waits_for(rank);
  std::string circle;
  const int first = rank;
  do {
    const int other = waits_for(rank);
    circle += fmt::format("; rank {} stands at action {} ({}) and waits for rank {}", rank,
                          next[rank], ToString(schedule.ranks[rank][next[rank]]), other);
    rank = other;
  } while (rank != first);
  Throw(ErrorKind::kInternal, Where(schedule, first, next[first]), "deadlock{}", circle);
}

/// The times at which messages arrive, one slot per (direction, receiving virtual stage,
/// microbatch).
class Mailboxes {
 public:
  Mailboxes(const Schedule& schedule, const Wiring& wiring)
      : schedule_(schedule),
        virtual_stages_(wiring.virtual_stages()),
        arrival_(Cell(schedule, 2 * virtual_stages_, 0), kNever) {}

  /// Of what is due at `place` in the direction and for the microbatch of `action`.
  double& operator()(const Place& place, const Action& action) {
    const int backward = action.kind == ActionKind::kForward ? 0 : virtual_stages_;
    const int stage = VirtualStage(schedule_, place.rank, place.chunk);
    return arrival_[Cell(schedule_, backward + stage, action.microbatch)];
  }

  static constexpr double kNever = -1;

 private:
  const Schedule& schedule_;
  int virtual_stages_;
  std::vector<double> arrival_;
};

/// All ranks, to be taken from the back: the first one first.
std::vector<int> AllRanks(const Schedule& schedule) {
  std::vector<int> ranks(schedule.stages);
  std::iota(ranks.rbegin(), ranks.rend(), 0);
  return ranks;
}

std::vector<Timed> SimulateComplete(const Schedule& schedule, const Wiring& wiring,
                                    const ActionCosts& costs) {
  for (const double cost :
       {costs.forward, costs.backward_input, costs.backward_weight, costs.transfer}) {
    CHECK(std::isfinite(cost) && cost >= 0) << cost;
  }
  std::vector<Timed> timeline;
  std::vector<size_t> row;  // of a rank: where it starts in `timeline`
  for (int rank = 0; rank < schedule.stages; ++rank) {
    row.push_back(timeline.size());
    for (const Action& action : schedule.ranks[rank]) timeline.push_back({rank, action, 0, 0});
  }

  Mailboxes arrival(schedule, wiring);
  std::vector<size_t> next(schedule.stages, 0);
  std::vector<double> clock(schedule.stages, 0);
  size_t ran = 0;
  for (std::vector<int> awake = AllRanks(schedule); !awake.empty();) {
    const int rank = awake.back();
    awake.pop_back();
    for (; next[rank] < schedule.ranks[rank].size(); ++next[rank], ++ran) {
      const Action& action = schedule.ranks[rank][next[rank]];
      double start = clock[rank];
      if (wiring.Source(rank, action)) {
        const double arrived = arrival({rank, action.chunk}, action);
        if (arrived == Mailboxes::kNever) break;
        start = std::max(start, arrived);
      }
      clock[rank] = start + Duration(costs, action.kind);
      timeline[row[rank] + next[rank]] = {rank, action, start, clock[rank]};
      if (const auto to = wiring.Destination(rank, action)) {
        arrival(*to, action) = clock[rank] + (to->rank == rank ? 0 : costs.transfer);
        if (to->rank != rank) awake.push_back(to->rank);
      }
    }
  }
  if (ran != timeline.size()) ThrowDeadlock(schedule, wiring, next);
  return timeline;
}

/// Whether a schedule that is live and in order also finishes where every send waits for its
/// receive. A message passes when its receiver asks for it and finds the sender holding it out.
bool FinishesWithRendezvous(const Schedule& schedule, const Wiring& wiring) {
  std::vector<size_t> next(schedule.stages, 0);
  std::vector<bool> sending(schedule.stages,
                            false);  // the action at `next` is done but for its send
  const auto holds_out = [&](int rank, const Place& to, const Action& wanted) {
    if (!sending[rank]) return false;
    const Action& action = schedule.ranks[rank][next[rank]];
    // The microbatches agree: channels are received in the order in which they are filled.
    return wiring.Destination(rank, action) == to &&
           (action.kind == ActionKind::kForward) == (wanted.kind == ActionKind::kForward);
  };
  const auto finish_action = [&](int rank) {
    sending[rank] = false;
    ++next[rank];
  };
  for (std::vector<int> awake = AllRanks(schedule); !awake.empty();) {
    const int rank = awake.back();
    awake.pop_back();
    while (!sending[rank] && next[rank] < schedule.ranks[rank].size()) {
      const Action& action = schedule.ranks[rank][next[rank]];
      const auto from = wiring.Source(rank, action);
      if (from && from->rank != rank) {
        if (!holds_out(from->rank, {rank, action.chunk}, action)) break;
        finish_action(from->rank);
        awake.push_back(from->rank);
      }
      const auto to = wiring.Destination(rank, action);
      if (to && to->rank != rank) {
        sending[rank] = true;
        awake.push_back(to->rank);
      } else {
        finish_action(rank);
      }
    }
  }
  for (int rank = 0; rank < schedule.stages; ++rank) {
    if (next[rank] != schedule.ranks[rank].size()) return false;
  }
  return true;
}

/// Counts the activations that each rank holds at once and holds them against the promise.
std::vector<int> CheckInFlight(const Schedule& schedule) {
  if (schedule.in_flight_bound.size() != static_cast<size_t>(schedule.stages)) {
    Throw(ErrorKind::kInternal, fmt::format("schedule {}", schedule.name),
          "{} promises of activations held, for {} stages", schedule.in_flight_bound.size(),
          schedule.stages);
  }
  std::vector<int> peaks;
  for (int rank = 0; rank < schedule.stages; ++rank) {
    const std::vector<Action>& actions = schedule.ranks[rank];
    int held = 0;
    int peak = 0;
    for (size_t position = 0; position < actions.size(); ++position) {
      held += Computes(actions[position], kOutput) ? 1 : 0;
      peak = std::max(peak, held);
      if (peak > schedule.in_flight_bound[rank]) {
        Throw(ErrorKind::kInternal, Where(schedule, rank, position),
              "holds the activations of {} microbatches; the schedule promises at most {}", peak,
              schedule.in_flight_bound[rank]);
      }
      held -= Computes(actions[position], kWeightGradient) ? 1 : 0;
    }
    peaks.push_back(peak);
  }
  return peaks;
}

}  // namespace

std::vector<Timed> Simulate(const Schedule& schedule, const ActionCosts& costs) {
  const Wiring wiring(schedule);
  CheckComplete(schedule);
  return SimulateComplete(schedule, wiring, costs);
}

ScheduleReport Verify(const Schedule& schedule, const ActionCosts& costs) {
  const Wiring wiring(schedule);
  CheckComplete(schedule);
  CheckWeightOrder(schedule);
  CheckChannels(schedule, wiring, kOutput);
  CheckChannels(schedule, wiring, kInputGradient);

  ScheduleReport report{};
  report.max_in_flight = CheckInFlight(schedule);
  double busy = 0;
  for (const Timed& timed : SimulateComplete(schedule, wiring, costs)) {
    busy += timed.end - timed.start;
    report.makespan = std::max(report.makespan, timed.end);
  }
  if (report.makespan > 0) report.bubble_fraction = 1 - busy / (schedule.stages * report.makespan);
  report.rendezvous_safe = FinishesWithRendezvous(schedule, wiring);
  return report;
}

}  // namespace cairn
