#pragma once

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace cairn {

/// How long the actions of one virtual stage take, and one message between two ranks; any unit of
/// time. The defaults are the usual first approximation: a backward costs two forwards.
struct ActionCosts {
  double forward = 1;
  double backward_input = 1;
  double backward_weight = 1;  ///< a whole backward takes backward_input + backward_weight
  double transfer = 0;         ///< latency: the sender does not wait for it
};

/// When one action of the schedule runs.
struct Timed {
  int rank;
  Action action;
  double start;
  double end;
};

/// Plays a schedule where sends never block: each rank runs its actions in order, each as soon as
/// its input has arrived. One entry per action, rank by rank in the order of the schedule.
/// Throws kInternal, as `Verify` does, for an incomplete schedule and for a deadlock.
std::vector<Timed> Simulate(const Schedule& schedule, const ActionCosts& costs = {});

/// What is known of a schedule that passed.
struct ScheduleReport {
  double makespan;         ///< of one step, in the unit of the costs
  double bubble_fraction;  ///< idle share of all the ranks' time
  /// [rank]: the most microbatches whose activations it holds at once, counted for every chunk,
  /// from the start of the forward until the weight gradients are done.
  std::vector<int> max_in_flight;
  /// Whether it would finish even if a rank received, computed and sent in turn and every send
  /// waited for its receive. Where false (1F1B: neighbours want to send to each other at once),
  /// a backend must buffer sends or give each direction a stream of its own.
  bool rendezvous_safe;
};

/// Proves that `schedule` is
/// - complete: every microbatch passes every virtual stage once forward and once backward, whole or
///   as input half and then weight half;
/// - in order: what one rank sends to another is received in the order in which it was sent,
///   activations and gradients apart, all chunks together (so messages need no tags); and each
///   virtual stage adds up the weight gradients of its microbatches in ascending order, so that
///   their sum has the same bits under every schedule;
/// - live: it finishes where sends never block and receives do;
/// - in bounds: no rank holds more activations than `in_flight_bound` promises.
/// Throws kInternal naming rank, position, action and cause otherwise.
ScheduleReport Verify(const Schedule& schedule, const ActionCosts& costs = {});

}  // namespace cairn
