#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/state_piece.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_writer.h"

namespace cairn {

/// Whether the pieces that this rank writes lie in the host's memory.
bool OnHost(const std::vector<StatePiece>& pieces);

/// The pieces that this rank writes, their elements copied to `memory`: a tensor of `host`, made
/// anew where it is undefined or too small.
std::vector<StatePiece> CopyToHost(const std::vector<StatePiece>& pieces, Device& host,
                                   Tensor& memory);

/// The rectangles of the pieces that this rank writes, which are OnHost and stay unchanged until
/// the chunks are written.
std::vector<ChunkSource> ChunksOf(const std::vector<StatePiece>& pieces);

/// What a save left.
struct SavedCheckpoint {
  std::string directory;
  uint64_t bytes = 0;  ///< of all ranks' shards
};

/// Collective save over a shared file system: each rank writes its chunks as one shard, another
/// rank reads it back and compares digests, all vote, and rank 0 commits. `description` holds
/// everything of the manifest but tensors and files (the same on every rank). `chunks` may fail: on
/// any failure every rank throws a CollectiveError, the attempt is removed, and older checkpoints
/// stay as they were. `guard` is asked on rank 0 before anything is touched, and before the commit
/// (see RunFence). `stop` ends this rank's writing early, as a failure.
SavedCheckpoint SaveChunks(Communicator& group, const std::string& run_dir,
                           const Manifest& description,
                           const std::function<std::vector<ChunkSource>()>& chunks,
                           const CommitGuard& guard = {}, const std::stop_token& stop = {});

/// SaveChunks of `pieces` as they are, which waits until all is done. Returns the checkpoint's
/// folder.
std::string SaveCheckpoint(Communicator& world, const std::string& run_dir,
                           const Manifest& description, const std::vector<StatePiece>& pieces);

/// Whether a kind of optimizer state is zero and therefore not stored: a model that no optimizer
/// has stepped has no moments yet.
bool IsUnstoredZero(const CheckpointReader& reader, const std::string& kind);

/// Throws Error(kCheckpoint) unless the checkpoint has the tensor that `piece` is a part of, in its
/// shape and type.
void CheckPieceFits(const CheckpointReader& reader, const StatePiece& piece);

/// Fills pieces from a checkpoint that any layout wrote, reading only the bytes they need; what
/// IsUnstoredZero becomes zero. Throws
/// Error(kCheckpoint) when a tensor is missing, of another shape, or damaged. Local: no
/// communication.
void LoadPieces(CheckpointReader& reader, const std::vector<StatePiece>& pieces);

}  // namespace cairn
