#include "parallel/pipeline/schedule.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>

#include "runtime/base/error.h"

namespace cairn {
namespace {

// More actions than any cluster runs in one step; a mistyped size stops here, not in the allocator.
constexpr int64_t kMaxActions = int64_t{1} << 26;

/// `warmup` forwards, then a forward and the oldest backward in turn, then the backwards left over.
/// Backwards run in ascending order, in GPipe too: every schedule then sums the weight gradients of
/// the microbatches in one order, hence to the same bits. (But for the output layer's, which the
/// forward pass sums; where that weight is tied to the embedding of the same rank, the order of the
/// two depends on the schedule.)
std::vector<Action> OneForwardOneBackward(int warmup, int microbatches) {
  std::vector<Action> actions;
  actions.reserve(2 * static_cast<size_t>(microbatches));
  for (int step = 0; step < microbatches + warmup; ++step) {
    if (step < microbatches) actions.push_back({ActionKind::kForward, step, 0});
    if (step >= warmup) actions.push_back({ActionKind::kBackward, step - warmup, 0});
  }
  return actions;
}

void AddGpipe(Schedule& schedule) {
  const int microbatches = schedule.microbatches;
  for (int rank = 0; rank < schedule.stages; ++rank) {
    schedule.ranks.push_back(OneForwardOneBackward(microbatches, microbatches));
    schedule.in_flight_bound.push_back(microbatches);
  }
}

void AddOneForwardOneBackward(Schedule& schedule) {
  const int microbatches = schedule.microbatches;
  for (int rank = 0; rank < schedule.stages; ++rank) {
    const int behind = schedule.stages - rank - 1;
    schedule.ranks.push_back(OneForwardOneBackward(std::min(behind, microbatches), microbatches));
    schedule.in_flight_bound.push_back(std::min(behind + 1, microbatches));
  }
}

/// A kind of schedule: its name, and how to fill in the actions and the promise of every rank.
struct Recipe {
  const char* name;
  void (*add_ranks)(Schedule&);
};

constexpr Recipe kRecipes[] = {{"gpipe", AddGpipe}, {"1f1b", AddOneForwardOneBackward}};

const Recipe& FindRecipe(const std::string& name) {
  const auto* found = std::find_if(std::begin(kRecipes), std::end(kRecipes),
                                   [&](const Recipe& recipe) { return recipe.name == name; });
  if (found == std::end(kRecipes)) {
    Throw(ErrorKind::kConfig, "parallel.pipeline_schedule",
          "there is no schedule \"{}\"; there are {}", name, fmt::join(ScheduleNames(), ", "));
  }
  return *found;
}

void CheckSizes(const std::string& name, int stages, int chunks, int microbatches) {
  if (stages < 1) {
    Throw(ErrorKind::kConfig, "parallel.pipeline_model_parallel_size",
          "a pipeline has at least 1 stage, not {}", stages);
  }
  if (microbatches < 1) {
    Throw(ErrorKind::kConfig, "train.global_batch_size",
          "a pipeline needs at least 1 microbatch a step, not {}", microbatches);
  }
  if (chunks != 1) {
    Throw(ErrorKind::kConfig, "parallel.virtual_pipeline_model_parallel_size",
          "schedule {} has 1 virtual stage a rank, not {}", name, chunks);
  }
  const int64_t per_microbatch = 2 * static_cast<int64_t>(stages);
  if (microbatches > kMaxActions / per_microbatch) {
    Throw(ErrorKind::kConfig, "parallel.pipeline_model_parallel_size",
          "{} stages times {} microbatches is too long a schedule; at most {} microbatches fit",
          stages, microbatches, kMaxActions / per_microbatch);
  }
}

}  // namespace

std::string ToString(const Action& action) {
  const char letter = "FBIW"[static_cast<int>(action.kind)];
  return action.chunk == 0 ? fmt::format("{}{}", letter, action.microbatch)
                           : fmt::format("{}{}.{}", letter, action.microbatch, action.chunk);
}

std::vector<std::string> ScheduleNames() {
  std::vector<std::string> names;
  for (const Recipe& recipe : kRecipes) names.emplace_back(recipe.name);
  return names;
}

Schedule MakeSchedule(const std::string& name, int stages, int chunks, int microbatches) {
  const Recipe& recipe = FindRecipe(name);
  CheckSizes(name, stages, chunks, microbatches);
  Schedule schedule;
  schedule.name = name;
  schedule.stages = stages;
  schedule.chunks = chunks;
  schedule.microbatches = microbatches;
  for (int rank = 0; rank < stages; ++rank) schedule.placement.push_back({rank});
  recipe.add_ranks(schedule);
  return schedule;
}

int VirtualStage(const Schedule& schedule, int rank, int chunk) {
  return schedule.placement.at(rank).at(chunk);
}

Wiring::Wiring(const Schedule& schedule) : placement_(schedule.placement) {
  const auto stages = static_cast<size_t>(schedule.stages);
  const auto chunks = static_cast<size_t>(schedule.chunks);
  const std::string where = fmt::format("schedule {}: placement", schedule.name);
  if (schedule.stages < 1 || schedule.chunks < 1 || placement_.size() != stages) {
    Throw(ErrorKind::kInternal, where, "{} ranks placed, for {} stages of {} chunks",
          placement_.size(), schedule.stages, schedule.chunks);
  }
  for (const std::vector<int>& row : placement_) {
    if (row.size() != chunks) {
      Throw(ErrorKind::kInternal, where, "a rank holds {} virtual stages instead of {}", row.size(),
            chunks);
    }
  }
  constexpr Place kNowhere{-1, -1};
  places_.assign(stages * chunks, kNowhere);
  for (int rank = 0; rank < schedule.stages; ++rank) {
    for (int chunk = 0; chunk < schedule.chunks; ++chunk) {
      const int stage = placement_[rank][chunk];
      if (stage < 0 || stage >= virtual_stages() || places_[stage] != kNowhere) {
        Throw(ErrorKind::kInternal, where, "rank {}, chunk {} is virtual stage {}, which is {}",
              rank, chunk, stage,
              stage < 0 || stage >= virtual_stages() ? "none of the model's" : "taken already");
      }
      places_[stage] = {rank, chunk};
    }
  }
}

std::optional<Place> Wiring::Neighbour(int rank, int chunk, int offset) const {
  const int stage = placement_[rank][chunk] + offset;
  if (stage < 0 || stage >= virtual_stages()) return std::nullopt;
  return places_[stage];
}

std::optional<Place> Wiring::Source(int rank, const Action& action) const {
  if (action.kind == ActionKind::kBackwardWeight) return std::nullopt;
  return Neighbour(rank, action.chunk, action.kind == ActionKind::kForward ? -1 : 1);
}

std::optional<Place> Wiring::Destination(int rank, const Action& action) const {
  if (action.kind == ActionKind::kBackwardWeight) return std::nullopt;
  return Neighbour(rank, action.chunk, action.kind == ActionKind::kForward ? 1 : -1);
}

}  // namespace cairn
