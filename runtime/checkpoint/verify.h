#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "runtime/checkpoint/manifest.h"

namespace cairn {

/// How much of a checkpoint is looked at.
enum class VerifyLevel {
  kQuick,  ///< COMMIT, manifest, sizes and headers of the shards
  kFull,   ///< every byte
};

/// A stretch of bytes that is not what was committed.
struct Damage {
  std::string file;     ///< name in the checkpoint's folder
  std::string tensor;   ///< logical name; empty if the bytes belong to no single tensor
  std::string kind;     ///< of the tensor
  uint64_t byte_begin;  ///< in the file
  uint64_t byte_end;    ///< one past the last; equal to byte_begin if the whole file is meant
  std::string message;
};

/// "FILE: tensor "x" (exp_avg), bytes [0,4096): MESSAGE".
std::string Describe(const Damage& damage);

/// Everything wrong with the checkpoint in `directory`, located to the tensor and to 4 MiB or less;
/// empty if it is sound. Damage never throws; what cannot be read is damaged.
std::vector<Damage> VerifyCheckpoint(const std::string& directory, VerifyLevel level);

/// The same for the shards alone: whether `directory` holds every byte that `manifest` describes.
std::vector<Damage> VerifyShardFiles(const std::string& directory, const Manifest& manifest);

/// Reads back a shard that was just written and compares size, header and every digest with what
/// its writer took from memory. On the writer's host the page cache answers, but for the header and
/// a sample of blocks, which come from storage where the kernel lets us. Throws Error(kInterrupted)
/// soon after `stop` is requested.
std::vector<Damage> VerifyShardFile(const std::string& directory, const ShardResult& shard,
                                    const std::stop_token& stop = {});

}  // namespace cairn
