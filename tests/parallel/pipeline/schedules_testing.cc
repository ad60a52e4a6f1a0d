#include "tests/parallel/pipeline/schedules_testing.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <sstream>
#include <tuple>
#include <utility>

namespace cairn::testing {
namespace {

using StageAndMicrobatch = std::pair<int, int>;

/// One turn-based run of a schedule.
class SlowPipeline {
 public:
  explicit SlowPipeline(const Schedule& schedule)
      : schedule_(schedule), next_(schedule.stages, 0), held_(schedule.stages, 0) {
    for (int rank = 0; rank < schedule.stages; ++rank) {
      for (int chunk = 0; chunk < schedule.chunks; ++chunk) {
        rank_of_[schedule.placement[rank][chunk]] = rank;
      }
    }
  }

  bool Run() {
    for (bool moved = true; moved && sound_;) {
      moved = false;
      for (int rank = 0; rank < schedule_.stages; ++rank) moved |= Turn(rank);
    }
    const auto all = static_cast<size_t>(schedule_.stages) * schedule_.chunks *
                     static_cast<size_t>(schedule_.microbatches);
    for (int rank = 0; rank < schedule_.stages; ++rank) {
      sound_ &= next_[rank] == schedule_.ranks[rank].size();
    }
    return sound_ && forward_.size() == all && gradient_.size() == all && weight_.size() == all;
  }

 private:
  /// Runs at most one action; false if the rank waits or is done.
  bool Turn(int rank) {
    if (next_[rank] == schedule_.ranks[rank].size()) return false;
    const Action action = schedule_.ranks[rank][next_[rank]];
    const int stage = schedule_.placement[rank][action.chunk];
    const StageAndMicrobatch self{stage, action.microbatch};
    if (action.kind == ActionKind::kForward) {
      if (stage > 0 && !Receive(forward_, stage - 1, stage, action.microbatch)) return false;
      sound_ &= forward_.insert(self).second;
      sound_ &= ++held_[rank] <= schedule_.in_flight_bound[rank];
      Send(stage, stage + 1, action.microbatch);
    }
    if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardInput) {
      const bool last = stage + 1 == schedule_.stages * schedule_.chunks;
      if (!last && !Receive(gradient_, stage + 1, stage, action.microbatch)) return false;
      sound_ &= forward_.count(self) == 1;
      sound_ &= gradient_.insert(self).second;
      Send(stage, stage - 1, action.microbatch);
    }
    if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight) {
      sound_ &= gradient_.count(self) == 1;
      sound_ &= weight_.insert(self).second;
      sound_ &= weights_done_[stage]++ == action.microbatch;
      --held_[rank];
    }
    ++next_[rank];
    return true;
  }

  void Send(int from, int to, int microbatch) {
    if (rank_of_.count(to) == 0 || rank_of_[from] == rank_of_[to]) return;
    channels_[{rank_of_[from], rank_of_[to], from < to}].push_back({to, microbatch});
  }

  bool Receive(const std::set<StageAndMicrobatch>& made, int from, int to, int microbatch) {
    if (rank_of_[from] == rank_of_[to]) return made.count({from, microbatch}) == 1;
    auto& channel = channels_[{rank_of_[from], rank_of_[to], from < to}];
    if (channel.empty()) return false;
    sound_ &= channel.front() == StageAndMicrobatch{to, microbatch};
    channel.pop_front();
    return true;
  }

  const Schedule& schedule_;
  std::map<int, int> rank_of_;
  /// (from rank, to rank, whether activations): what is under way, by receiver.
  std::map<std::tuple<int, int, bool>, std::deque<StageAndMicrobatch>> channels_;
  std::set<StageAndMicrobatch> forward_, gradient_, weight_;
  std::map<int, int> weights_done_;
  std::vector<size_t> next_;
  std::vector<int> held_;
  bool sound_ = true;
};

}  // namespace

std::vector<Action> ParseActions(const std::string& text) {
  std::vector<Action> actions;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const size_t kind = std::string("FBIW").find(word[0]);
    const size_t dot = word.find('.');
    actions.push_back({static_cast<ActionKind>(kind), std::stoi(word.substr(1)),
                       dot == std::string::npos ? 0 : std::stoi(word.substr(dot + 1))});
  }
  return actions;
}

Schedule MakeByHand(const std::string& name, std::vector<std::vector<int>> placement,
                    int microbatches, const std::vector<std::string>& ranks) {
  Schedule schedule;
  schedule.name = name;
  schedule.stages = static_cast<int>(placement.size());
  schedule.chunks = static_cast<int>(placement[0].size());
  schedule.microbatches = microbatches;
  schedule.placement = std::move(placement);
  schedule.in_flight_bound.assign(ranks.size(), microbatches * schedule.chunks);
  for (const std::string& rank : ranks) schedule.ranks.push_back(ParseActions(rank));
  return schedule;
}

Schedule InterleavedByHand() {
  return MakeByHand("interleaved", {{0, 2}, {1, 3}}, 4,
                    {"F0 F1 F0.1 F1.1 F2 B0.1 F3 B1.1 F2.1 B0 F3.1 B1 B2.1 B3.1 B2 B3",
                     "F0 F1 F0.1 B0.1 F1.1 B1.1 F2 B0 F3 B1 F2.1 B2.1 F3.1 B3.1 B2 B3"});
}

Schedule ZeroBubbleByHand() {
  return MakeByHand("zero bubble", {{0}, {1}}, 3,
                    {"F0 F1 I0 W0 F2 I1 W1 I2 W2", "F0 I0 F1 I1 W0 F2 I2 W1 W2"});
}

Schedule VShapedByHand() {
  return MakeByHand("v", {{0, 3}, {1, 2}}, 2,
                    {"F0 F1 F0.1 I0.1 F1.1 I1.1 W0.1 W1.1 I0 I1 W0 W1",
                     "F0 F0.1 F1 F1.1 I0.1 I0 I1.1 I1 W0.1 W0 W1.1 W1"});
}

bool SoundByBruteForce(const Schedule& schedule) { return SlowPipeline(schedule).Run(); }

bool RendezvousSafeByBruteForce(const Schedule& schedule) {
  using Message = std::tuple<int, int, int>;  // from stage, to stage, microbatch
  std::vector<std::deque<Message>> ranks(schedule.stages);
  size_t left = 0;
  for (int rank = 0; rank < schedule.stages; ++rank) {
    const std::vector<int>& mine = schedule.placement[rank];
    const auto elsewhere = [&](int stage) {
      return stage >= 0 && stage < schedule.stages * schedule.chunks &&
             std::find(mine.begin(), mine.end(), stage) == mine.end();
    };
    for (const Action& action : schedule.ranks[rank]) {
      if (action.kind == ActionKind::kBackwardWeight) continue;
      const int stage = mine[action.chunk];
      const int ahead = action.kind == ActionKind::kForward ? 1 : -1;
      if (elsewhere(stage - ahead))
        ranks[rank].push_back({stage - ahead, stage, action.microbatch});
      if (elsewhere(stage + ahead))
        ranks[rank].push_back({stage, stage + ahead, action.microbatch});
    }
    left += ranks[rank].size();
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (std::deque<Message>& a : ranks) {
      for (std::deque<Message>& b : ranks) {
        if (&a == &b || a.empty() || b.empty() || a.front() != b.front()) continue;
        a.pop_front();
        b.pop_front();
        left -= 2;
        moved = true;
      }
    }
  }
  return left == 0;
}

}  // namespace cairn::testing
