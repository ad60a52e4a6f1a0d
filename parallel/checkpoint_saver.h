#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "parallel/agreement.h"
#include "parallel/communicator.h"
#include "parallel/state_piece.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/store.h"
#include "runtime/device/device.h"

namespace cairn {

/// Saves checkpoints behind the training's back: Save copies the state into host memory and
/// returns; a thread of its own then does all that SaveChunks does, and applies the retention. It
/// talks to the other ranks' savers in a group of its own. One checkpoint is written at a time; one
/// more can wait in a second copy, which is made when it is first needed.
///
/// The ranks save and collect in the same order, so that each knows without asking how many saves
/// all of them have pending.
class CheckpointSaver {
 public:
  struct Options {
    std::string run_dir;
    RetentionPolicy retention = {};
    CommitGuard guard = {};  ///< of rank 0; see SaveChunks
    bool async = true;       ///< false: Save copies nothing and returns when all is done
  };

  /// How a save ended, the same on every rank but for what rank 0 alone knows.
  struct Outcome {
    int64_t iteration = 0;
    std::optional<CollectiveError> error;  ///< why it failed
    std::string directory;                 ///< of the checkpoint, unless it failed
    uint64_t bytes = 0;                    ///< of all ranks' shards
    double seconds = 0;                    ///< from the first file to the commit
    std::string retention_problem;         ///< on rank 0; empty: none
  };

  /// Collective.
  CheckpointSaver(Communicator& world, Options options);
  /// Waits for what is pending, whose outcome nobody will hear; while an error unwinds this rank it
  /// gives it up instead, for the other ranks may never come.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Begins a save of `pieces` as they are now; see SaveChunks. There must be room(). What goes
  /// wrong is in the outcome.
  void Save(Manifest description, const std::vector<StatePiece>& pieces);

  /// Saves that began and were not collected; the same on every rank.
  size_t pending() const { return saves_.size(); }
  /// Whether another save can begin before one is collected.
  bool room() const { return pending() < (options_.async ? 2 : 1); }
  /// Whether the oldest pending save has ended on this rank. When it has on all, Collect does not
  /// wait.
  bool finished() const { return !saves_.empty() && saves_.front()->finished; }
  /// Waits for the end of the oldest pending save.
  Outcome Collect();

 private:
  struct PendingSave {
    Manifest description;
    Tensor snapshot;  // bytes on the host
    std::vector<ChunkSource> chunks;
    std::exception_ptr failure;  // of this rank alone: before the save, and then of the save
    Outcome outcome;
    Event ended;
    std::atomic<bool> finished = false;
  };

  void Run(PendingSave& save);
  // Applies the retention; what is wrong with it, or "".
  std::string Retain() const;

  Options options_;
  std::unique_ptr<Communicator> group_;
  std::unique_ptr<Device> host_;  // where snapshots lie; made for the first
  std::vector<Tensor> spare_;     // snapshots of the past, to be filled again
  std::deque<std::unique_ptr<PendingSave>> saves_;
  std::stop_source stop_;
  std::unique_ptr<Stream> writer_;  // last: its thread ends before the rest goes
};

}  // namespace cairn
