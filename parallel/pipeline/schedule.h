#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cairn {

/// One kind of work on one microbatch. A schedule may run the backward pass whole or in two halves
/// (zero-bubble pipelines, Qi et al. 2023): the half the previous stage waits for, and the rest.
enum class ActionKind {
  kForward,
  kBackward,        ///< input and weight gradients together
  kBackwardInput,   ///< gradients with respect to the inputs only
  kBackwardWeight,  ///< the deferred gradients with respect to the weights
};

/// One step of one rank.
struct Action {
  ActionKind kind;
  int microbatch;
  int chunk;  ///< which of the rank's virtual stages

  bool operator==(const Action&) const = default;
};

/// "F3", "B3", "I3" or "W3" (forward, backward, input half, weight half of microbatch 3), followed
/// by ".c" for chunk c > 0.
std::string ToString(const Action& action);

/// What every rank of a pipeline does in one training step, as data. The executor runs any schedule
/// that `Verify` (verify.h) accepts; it knows none by name.
///
/// The model is cut into `stages * chunks` virtual stages, numbered from input to output. Rank r
/// holds `chunks` of them: chunk c is virtual stage `placement[r][c]`. Every schedule of the family
/// is a placement and a list: one chunk for GPipe and 1F1B, round after round for interleaved
/// schedules, down and up again for the V-shaped ones.
struct Schedule {
  std::string name;
  int stages = 0;                           ///< ranks of the pipeline
  int chunks = 0;                           ///< virtual stages of each rank
  int microbatches = 0;                     ///< of one training step
  std::vector<std::vector<int>> placement;  ///< [rank][chunk] -> virtual stage, a bijection
  std::vector<int> in_flight_bound;         ///< [rank]: most activations held; see ScheduleReport
  std::vector<std::vector<Action>> ranks;   ///< [rank]: its actions in order
};

/// The names that `MakeSchedule` knows.
std::vector<std::string> ScheduleNames();

/// Builds the schedule called `name`; a pure function.
///
///   gpipe  all forwards, then all backwards (Huang et al. 2019, "GPipe"). Holds the activations of
///          all microbatches.
///   1f1b   PipeDream-flush (Narayanan et al. 2021, "Efficient Large-Scale Language Model Training
///          on GPU Clusters"): a warm-up of min(stages - rank - 1, microbatches) forwards, then one
///          forward and one backward in turn. The bubble of GPipe, (p-1)/(m+p-1) of the time, but
///          rank r holds only min(stages - r, microbatches) microbatches.
///
/// Throws kConfig for an unknown name and for sizes that the schedule does not fit.
Schedule MakeSchedule(const std::string& name, int stages, int chunks, int microbatches);

/// The virtual stage of `chunk` on `rank`.
int VirtualStage(const Schedule& schedule, int rank, int chunk);

/// Where a virtual stage lives.
struct Place {
  int rank;
  int chunk;

  bool operator==(const Place&) const = default;
};

/// Who hands what to whom: the peers of every action, read off a schedule's placement. A forward
/// passes its output to the next virtual stage, a backward (or its input half) passes its gradient
/// to the previous one; weight halves talk to nobody.
class Wiring {
 public:
  /// Throws kInternal unless the placement of `schedule` is a bijection.
  explicit Wiring(const Schedule& schedule);

  int virtual_stages() const { return static_cast<int>(places_.size()); }

  /// Where the input of `action` on `rank` comes from: nowhere (nullopt) for the first stage's
  /// forward, the last stage's backward and for weight halves; maybe from `rank` itself.
  std::optional<Place> Source(int rank, const Action& action) const;
  /// Where its result goes, in the same way.
  std::optional<Place> Destination(int rank, const Action& action) const;

 private:
  std::optional<Place> Neighbour(int rank, int chunk, int offset) const;

  std::vector<std::vector<int>> placement_;
  std::vector<Place> places_;  // by virtual stage
};

}  // namespace cairn
