#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/config/config.h"

namespace cairn {

struct ReshardRequest {
  std::string checkpoint;              ///< step folder to read
  std::string target;                  ///< step folder to write; must not exist yet
  std::vector<ConfigOverride> layout;  ///< what is new in the checkpoint's config
  int data_parallel_size = 1;
  uint64_t memory_limit = 0;  ///< bytes that the process may have resident
};

struct ReshardReport {
  MeshShape shape;
  uint64_t files = 0;
  uint64_t bytes_written = 0;
  uint64_t bytes_read = 0;  ///< from the old shards; more than they have where blocks serve many
  uint64_t peak_memory = 0;
};

/// Writes a checkpoint anew as a run of another layout would have saved it: the same state,
/// training position and config, but for its parallel section. The rectangles of each new rank are
/// those of the real model code, built on `meta`. Memory stays below the limit whatever the
/// checkpoint's size.
///
/// Throws Error(kConfig) for a layout that does not fit, kUsage where the target exists or the
/// limit is too small, naming what would do, and kCheckpoint for a damaged checkpoint.
ReshardReport Reshard(const ReshardRequest& request);

}  // namespace cairn
