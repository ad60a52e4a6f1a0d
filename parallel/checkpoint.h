#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/state_piece.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/manifest.h"

namespace cairn {

/// Collective save over a shared file system: each rank writes the pieces it owns as one shard,
/// another rank reads it back and compares digests, all vote, and rank 0 commits. `description`
/// holds everything of the manifest but tensors and files (the same on every rank). Returns the
/// folder of the committed checkpoint. On any failure every rank throws a CollectiveError, the
/// attempt is removed, and older checkpoints stay as they were.
std::string SaveCheckpoint(Communicator& world, const std::string& run_dir,
                           const Manifest& description, const std::vector<StatePiece>& pieces);

/// Fills pieces from a checkpoint that any layout wrote, reading only the bytes they need. A kind of
/// optimizer state of which a checkpoint without an optimizer step holds nothing is zero. Throws
/// Error(kCheckpoint) when a tensor is missing, of another shape, or damaged. Local: no
/// communication.
void LoadPieces(CheckpointReader& reader, const std::vector<StatePiece>& pieces);

}  // namespace cairn
