#include "runtime/checkpoint/garbage.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "runtime/checkpoint/commit.h"

namespace cairn {
namespace {

// Judges one folder after the other, newest first.
class Judge {
 public:
  Judge(int64_t keep, int64_t keep_every) : keep_(keep), keep_every_(keep_every) {}

  GarbageVerdict Run(CheckpointInfo info) {
    if (keep_ > 0 && newest_good_.empty() && info.state == CheckpointState::kCommitted) {
      const std::vector<Damage> damages = VerifyCheckpoint(info.path, VerifyLevel::kFull);
      if (!damages.empty()) {
        info.state = CheckpointState::kDamaged;
        info.problem = Describe(damages.front());
      }
    }
    auto [remove, reason] = Decide(info);
    return {std::move(info), remove, std::move(reason)};
  }

 private:
  std::pair<bool, std::string> Decide(const CheckpointInfo& info) {
    std::error_code ignored;
    if (std::filesystem::is_symlink(info.path, ignored)) return {false, "is a link"};
    if (info.state == CheckpointState::kDamaged) {
      return {false, "is damaged; another copy may repair it, or remove it by hand"};
    }
    if (info.state == CheckpointState::kAborted) {
      if (!newest_good_.empty()) return {true, "is aborted and older than " + newest_good_};
      return {false,
              "may be a save under way: it is newer than every good checkpoint; the next save of "
              "this iteration replaces it"};
    }
    ++good_;
    if (newest_good_.empty()) {
      newest_good_ = StepName(info.iteration);
      return {false, "is the newest good checkpoint"};
    }
    if (keep_ <= 0) return {false, "is good; --keep removes old ones"};
    if (good_ <= keep_) return {false, fmt::format("is one of the newest {}", keep_)};
    if (keep_every_ > 0 && info.iteration % keep_every_ == 0) {
      return {false, fmt::format("is of a multiple of {}", keep_every_)};
    }
    return {true, fmt::format("is older than the newest {}", keep_)};
  }

  int64_t keep_;
  int64_t keep_every_;
  int64_t good_ = 0;
  std::string newest_good_;
};

}  // namespace

std::vector<GarbageVerdict> JudgeGarbage(const std::string& run_dir, int64_t keep,
                                         int64_t keep_every) {
  std::vector<CheckpointInfo> infos = ListCheckpoints(run_dir);
  std::vector<GarbageVerdict> verdicts;
  Judge judge(keep, keep_every);
  for (auto info = infos.rbegin(); info != infos.rend(); ++info) {
    verdicts.push_back(judge.Run(std::move(*info)));
  }
  std::ranges::reverse(verdicts);
  return verdicts;
}

}  // namespace cairn
