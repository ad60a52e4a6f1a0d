#include "parallel/checkpoint_saver.h"

#include <glog/logging.h>

#include <utility>

#include "parallel/checkpoint.h"
#include "runtime/base/error.h"
#include "runtime/telemetry/stopwatch.h"

namespace cairn {

CheckpointSaver::CheckpointSaver(Communicator& world, Options options)
    : options_(std::move(options)),
      group_(world.Background("checkpoint")),
      writer_(options_.async ? NewWorkerStream("checkpoint") : NewInlineStream()) {}

CheckpointSaver::~CheckpointSaver() {
  if (std::uncaught_exceptions() == 0) return;
  stop_.request_stop();
  group_->Leave();
}

void CheckpointSaver::Save(Manifest description, const std::vector<StatePiece>& pieces) {
  CHECK(room()) << pending() << " saves are pending";
  PendingSave& save = *saves_.emplace_back(std::make_unique<PendingSave>());
  save.outcome.iteration = description.iteration;
  save.description = std::move(description);
  try {
    const bool copy = options_.async || !OnHost(pieces);
    if (copy && !spare_.empty()) {
      save.snapshot = std::move(spare_.back());
      spare_.pop_back();
    }
    if (copy && host_ == nullptr) {
      // Memory of the kind that the state's device copies to fastest.
      host_ = pieces.empty() ? NewCpuDevice() : pieces.front().data.device().NewHostDevice();
    }
    save.chunks = ChunksOf(copy ? CopyToHost(pieces, *host_, save.snapshot) : pieces);
  } catch (const Error& error) {
    // For all ranks to hear: the others wait for this one's vote.
    save.failure = std::make_exception_ptr(
        Error(error.kind(), "copy of the state (checkpoint.async)", error.message()));
  }
  writer_->Run([this, &save] { Run(save); });
  save.ended = writer_->Record();
}

void CheckpointSaver::Run(PendingSave& save) {
  const auto chunks = [&] {
    if (save.failure) std::rethrow_exception(std::exchange(save.failure, nullptr));
    return std::move(save.chunks);
  };
  Outcome& outcome = save.outcome;
  try {
    const Stopwatch watch;
    SavedCheckpoint saved = SaveChunks(*group_, options_.run_dir, save.description, chunks,
                                       options_.guard, stop_.get_token());
    outcome.seconds = watch.ElapsedSeconds();
    outcome.bytes = saved.bytes;
    outcome.directory = std::move(saved.directory);
    if (group_->rank() == 0) outcome.retention_problem = Retain();
  } catch (const CollectiveError& error) {
    outcome.error = error;
  } catch (...) {
    save.failure = std::current_exception();
  }
  save.finished = true;
}

std::string CheckpointSaver::Retain() const {
  try {
    ApplyRetention(options_.run_dir, options_.retention);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

CheckpointSaver::Outcome CheckpointSaver::Collect() {
  CHECK(!saves_.empty()) << "no save is pending";
  const std::unique_ptr<PendingSave> save = std::move(saves_.front());
  saves_.pop_front();
  save->ended.Synchronize();
  if (save->snapshot.defined()) spare_.push_back(std::move(save->snapshot));
  if (save->failure) std::rethrow_exception(save->failure);
  return std::move(save->outcome);
}

}  // namespace cairn
