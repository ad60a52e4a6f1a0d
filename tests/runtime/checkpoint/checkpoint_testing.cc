#include "tests/runtime/checkpoint/checkpoint_testing.h"

#include <glog/logging.h>
#include <stdlib.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <sstream>

#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/store.h"
#include "runtime/checkpoint/verify.h"

namespace cairn {

TemporaryFolder::TemporaryFolder() {
  // Memory, where there is such a folder: what is tested asks for many an fsync.
  std::error_code ignored;
  const std::filesystem::path base = std::filesystem::is_directory("/dev/shm", ignored)
                                         ? "/dev/shm"
                                         : std::filesystem::temp_directory_path();
  std::string pattern = base / "cairn_checkpoint_XXXXXX";
  CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t dimension : shape) product *= dimension;
  return product;
}

std::vector<float> Slice(const std::vector<float>& tensor, const std::vector<int64_t>& shape,
                         const Tile& tile) {
  std::vector<float> values;
  std::vector<int64_t> index(shape.size(), 0);
  for (int64_t n = Elements(tile.extent); n > 0; --n) {
    int64_t place = 0;
    for (size_t d = 0; d < shape.size(); ++d) {
      place = place * shape[d] + tile.offset[d] + index[d];
    }
    values.push_back(tensor[static_cast<size_t>(place)]);
    for (size_t d = shape.size(); d > 0 && ++index[d - 1] == tile.extent[d - 1]; --d) {
      index[d - 1] = 0;
    }
  }
  return values;
}

std::vector<float> Values(int64_t count, uint32_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i) + static_cast<float>(seed) / 1024;
  }
  return values;
}

std::vector<Tile> RandomTiling(const std::vector<int64_t>& shape, int pieces, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Tile> tiles = {{std::vector<int64_t>(shape.size(), 0), shape}};
  for (int attempt = 0; attempt < 20 * pieces && std::ssize(tiles) < pieces; ++attempt) {
    Tile& tile = tiles[random() % tiles.size()];
    const size_t d = random() % shape.size();
    if (tile.extent[d] < 2) continue;
    const int64_t cut =
        1 + static_cast<int64_t>(random() % static_cast<uint64_t>(tile.extent[d] - 1));
    Tile upper = tile;
    upper.offset[d] += cut;
    upper.extent[d] -= cut;
    tile.extent[d] = cut;
    tiles.push_back(std::move(upper));
  }
  std::ranges::shuffle(tiles, random);
  return tiles;
}

std::string SaveTiled(const std::string& run_dir, const std::vector<float>& values,
                      const std::vector<int64_t>& shape, const std::vector<Tile>& tiles,
                      size_t shards) {
  const std::string directory = BeginCheckpoint(run_dir, 1);
  std::vector<std::vector<float>> pieces;
  for (const Tile& tile : tiles) pieces.push_back(Slice(values, shape, tile));
  std::vector<ShardResult> results;
  for (size_t s = 0; s < shards; ++s) {
    ShardWriter writer(directory, ShardFileName(static_cast<int>(s)));
    for (size_t i = s; i < tiles.size(); i += shards) {
      writer.Add({"t", "weight", "F32", shape, tiles[i].offset, tiles[i].extent,
                  std::as_bytes(std::span(pieces[i]))});
    }
    results.push_back(writer.Write());
    CHECK(VerifyShardFile(directory, results.back()).empty());
  }
  Manifest manifest;
  manifest.iteration = 1;
  MergeShards(std::move(results), manifest);
  CommitCheckpoint(directory, manifest);
  return directory;
}

// 0, 1, 2, ...: exact as floats, of which small tensors are enough.
std::vector<float> Places(int64_t count) {
  CHECK_LT(count, int64_t{1} << 24);
  return Values(count, 0);
}

std::vector<float> SmallWeight() { return Values(24, 1); }
std::vector<float> SmallMoment() { return Values(24, 2); }

std::string WriteSmallCheckpoint(const std::string& run_dir, int64_t iteration) {
  const std::string directory = BeginCheckpoint(run_dir, iteration);
  const std::vector<int64_t> shape = {6, 4};
  const std::vector<float> bias = Values(3, 3);
  const std::vector<uint16_t> half = {0x3c00, 0xc000, 0x7c00};
  const int64_t scalar = iteration;

  Manifest manifest;
  manifest.iteration = iteration;
  manifest.consumed_samples = iteration * 8;
  manifest.tokens = iteration * 8 * 1024;
  manifest.config_text = "train { seed: 1234 }\n";
  manifest.training_state.loss_scale = 65536;
  manifest.training_state.optimizer_steps = iteration;
  manifest.training_state.seed = 1234;
  manifest.layout = {{"tensor_model_parallel_size", "2"}};

  std::vector<ShardResult> shards;
  for (int rank = 0; rank < 2; ++rank) {
    ShardWriter writer(directory, ShardFileName(rank));
    // Weights are split by rows, moments by columns.
    const Tile rows = {{3 * rank, 0}, {3, 4}};
    const Tile columns = {{0, 2 * rank}, {6, 2}};
    const std::vector<float> weight = Slice(SmallWeight(), shape, rows);
    const std::vector<float> moment = Slice(SmallMoment(), shape, columns);
    const std::string name = "layers.0.mlp.fc1.weight";
    writer.Add(
        {name, "weight", "F32", shape, rows.offset, rows.extent, std::as_bytes(std::span(weight))});
    writer.Add({name, "exp_avg", "F32", shape, columns.offset, columns.extent,
                std::as_bytes(std::span(moment))});
    if (rank == 0) {
      writer.Add({"layers.0.mlp.fc1.bias",
                  "weight",
                  "F16",
                  {3},
                  {0},
                  {3},
                  std::as_bytes(std::span(half))});
      writer.Add({"layers.0.mlp.fc1.bias",
                  "master",
                  "F32",
                  {3},
                  {0},
                  {3},
                  std::as_bytes(std::span(bias))});
      writer.Add({"counter", "weight", "I64", {}, {}, {}, std::as_bytes(std::span(&scalar, 1))});
      writer.Add({"nothing", "weight", "F32", {0, 4}, {0, 0}, {0, 4}, {}});
    }
    // The way that a description takes between ranks.
    shards.push_back(ParseShardResult(SerializeShardResult(writer.Write())));
  }
  MergeShards(std::move(shards), manifest);
  CommitCheckpoint(directory, manifest);
  return directory;
}

void WriteUncheckedCommit(const std::string& directory, const std::string& manifest,
                          int64_t iteration) {
  WriteFile(directory + "/" + kManifestFile, manifest);
  const CommitRecord record = {.iteration = iteration,
                               .manifest_bytes = manifest.size(),
                               .manifest_sha256 = Sha256Hex(manifest)};
  WriteFile(directory + "/" + kCommitFile, record.Render());
}

std::string WriteTiledCheckpoint(const std::string& run_dir, const Manifest& description,
                                 const std::vector<WholeTensor>& tensors, int pieces, int shards,
                                 uint32_t seed) {
  const std::string directory = BeginCheckpoint(run_dir, description.iteration);
  std::vector<ShardWriter> writers;
  for (int s = 0; s < shards; ++s) writers.emplace_back(directory, ShardFileName(s));
  std::deque<std::string> kept;  // what the writers are told of
  size_t turn = seed;
  for (const WholeTensor& tensor : tensors) {
    const bool cuts = Elements(tensor.shape) > 1;
    const std::vector<Tile> tiles =
        cuts ? RandomTiling(tensor.shape, pieces, seed++)
             : std::vector<Tile>{{std::vector<int64_t>(tensor.shape.size(), 0), tensor.shape}};
    const size_t element = tensor.bytes.size() / std::max<int64_t>(Elements(tensor.shape), 1);
    for (const Tile& tile : tiles) {
      // Its bytes, one element after the other.
      std::string& bytes = kept.emplace_back();
      for (const float place : Slice(Places(Elements(tensor.shape)), tensor.shape, tile)) {
        bytes += tensor.bytes.substr(static_cast<size_t>(place) * element, element);
      }
      writers[turn++ % writers.size()].Add({tensor.name, tensor.kind, tensor.dtype, tensor.shape,
                                            tile.offset, tile.extent,
                                            std::as_bytes(std::span(bytes))});
    }
  }
  std::vector<ShardResult> results;
  for (ShardWriter& writer : writers) results.push_back(writer.Write());
  Manifest manifest = description;
  MergeShards(std::move(results), manifest);
  CommitCheckpoint(directory, manifest);
  return directory;
}

std::string ReadFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  CHECK(stream.is_open()) << path;
  return {std::istreambuf_iterator<char>(stream), {}};
}

void WriteFile(const std::string& path, const std::string& content) {
  // In place where there is a file: some file systems flush one that is truncated to be rewritten.
  std::error_code ignored;
  const bool exists = std::filesystem::exists(path, ignored);
  std::fstream stream(path, exists ? std::ios::binary | std::ios::in | std::ios::out
                                   : std::ios::binary | std::ios::out);
  stream << content;
  stream.close();
  CHECK(stream.good()) << path;
  std::filesystem::resize_file(path, content.size());
}

}  // namespace cairn
