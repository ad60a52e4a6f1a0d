#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "layouts_testing.h"
#include "runtime/checkpoint/manifest.h"

namespace cairn::testing {

/// All that a checkpoint promises to keep, whatever layout saved it.
struct CheckpointContent {
  int64_t iteration = 0;
  int64_t consumed_samples = 0;
  int64_t tokens = 0;
  TrainingState training_state;
  std::map<std::string, std::string> tensors;  ///< the bytes of each, by name and kind

  bool operator==(const CheckpointContent&) const = default;
};

/// Runs and their checkpoints, in memory where there is a folder for that; removed at the end of
/// its scope.
class RunFolders {
 public:
  /// Changes, on every rank, what is about to be saved.
  using Sabotage = std::function<void(Manifest& description, std::vector<StatePiece>& pieces)>;

  RunFolders();
  ~RunFolders();
  RunFolders(const RunFolders&) = delete;
  RunFolders& operator=(const RunFolders&) = delete;

  std::string operator/(const std::string& run) const { return path_ + "/" + run; }

  /// Trains `iterations` more from the newest checkpoint of run `from` (from the start where it is
  /// empty) and saves into run `into`. Rank 0's points.
  std::vector<Point> Train(const Layout& layout, int iterations, const std::string& from,
                           const std::string& into, const ModelSize& size = {},
                           const Sabotage& sabotage = {}) const;

  /// What the newest checkpoint of a run holds.
  CheckpointContent ContentOf(const std::string& run) const;

  void Remove(const std::string& run) const;

 private:
  std::string path_;
};

/// One component of a checkpoint left as a fresh run has it.
struct ComponentFault {
  std::string name;
  bool only_fp16;  ///< other precisions never change it
  bool steers;     ///< what follows in training depends on it at once
  RunFolders::Sabotage sabotage;
};

/// All that there are.
std::vector<ComponentFault> ComponentFaults(const CheckpointContent& fresh);

}  // namespace cairn::testing
