#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_writer.h"

namespace cairn {

/// A folder that is removed with all it holds at the end of its scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A rectangle with its own vectors.
struct Tile {
  std::vector<int64_t> offset;
  std::vector<int64_t> extent;
};

/// The elements of `tile` of a row-major tensor of `shape`, copied one by one.
std::vector<float> Slice(const std::vector<float>& tensor, const std::vector<int64_t>& shape,
                         const Tile& tile);

/// The product of `shape`.
int64_t Elements(const std::vector<int64_t>& shape);

/// `count` values that differ from each other, depending on `seed`.
std::vector<float> Values(int64_t count, uint32_t seed);

/// A random tiling of `shape` by straight cuts into about `pieces` tiles.
std::vector<Tile> RandomTiling(const std::vector<int64_t>& shape, int pieces, uint32_t seed);

/// Saves `values` as tensor "t" of `shape`, cut into `tiles` that are dealt out to `shards` shards,
/// and commits it as iteration 1. Returns its folder.
std::string SaveTiled(const std::string& run_dir, const std::vector<float>& values,
                      const std::vector<int64_t>& shape, const std::vector<Tile>& tiles,
                      size_t shards);

/// Writes and commits a small checkpoint of two shards at RUN_DIR/checkpoints/step-N: weights that
/// are whole, split and scalar, and optimizer state. Returns its folder.
std::string WriteSmallCheckpoint(const std::string& run_dir, int64_t iteration);

/// Commits `manifest`, the bytes of MANIFEST.pb, as someone would who knows the format and means no
/// good: nothing is checked.
void WriteUncheckedCommit(const std::string& directory, const std::string& manifest,
                          int64_t iteration);

/// The values that WriteSmallCheckpoint gives "layers.0.mlp.fc1.weight" [6,4] and its "exp_avg".
std::vector<float> SmallWeight();
std::vector<float> SmallMoment();

/// A whole tensor of any dtype.
struct WholeTensor {
  std::string name;
  std::string kind;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;  ///< row-major
};

/// The bytes of `values`.
template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Writes and commits a checkpoint of `tensors` and, but for tensors and files, of `description`:
/// each tensor is cut at random into about `pieces` rectangles, which are dealt out to `shards`
/// shards. Returns its folder.
std::string WriteTiledCheckpoint(const std::string& run_dir, const Manifest& description,
                                 const std::vector<WholeTensor>& tensors, int pieces, int shards,
                                 uint32_t seed);

/// Whole content of a file, and its replacement in place.
std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& content);

}  // namespace cairn
