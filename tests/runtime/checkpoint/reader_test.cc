#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <set>

#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/store.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::vector<float> ReadTile(CheckpointReader& reader, const std::string& name,
                            const std::string& kind, const Tile& tile) {
  std::vector<float> values(static_cast<size_t>(Elements(tile.extent)), -1);
  reader.Read(name, kind, tile.offset, tile.extent, std::as_writable_bytes(std::span(values)));
  return values;
}

// What reading elements [first, last) of the flattened 2-d `wanted` takes: the headers of the
// shards and every block that they lie in, once.
uint64_t NeededBytes(const Manifest& manifest, const Tile& wanted, int64_t first, int64_t last) {
  std::set<uint32_t> files;
  std::set<std::pair<const Chunk*, int64_t>> blocks;
  const auto block_elements = static_cast<int64_t>(kCrcBlockBytes / sizeof(float));
  uint64_t bytes = 0;
  for (const Chunk& chunk : manifest.tensors[0].chunks) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t row = wanted.offset[0] + i / wanted.extent[1] - chunk.offset[0];
      const int64_t column = wanted.offset[1] + i % wanted.extent[1] - chunk.offset[1];
      if (row < 0 || row >= chunk.extent[0] || column < 0 || column >= chunk.extent[1]) continue;
      const int64_t block = (row * chunk.extent[1] + column) / block_elements;
      if (!blocks.emplace(&chunk, block).second) continue;
      const int64_t rest = Elements(chunk.extent) - block * block_elements;
      bytes += static_cast<uint64_t>(std::min(rest, block_elements)) * sizeof(float);
      if (files.insert(chunk.file).second) bytes += manifest.files[chunk.file].header_bytes;
    }
  }
  return bytes;
}

TEST(ReaderTest, SmallCheckpointRoundTripsToTheBit) {
  const TemporaryFolder folder;
  CheckpointReader reader(WriteSmallCheckpoint(folder.path(), 100));
  const Manifest& manifest = reader.manifest();
  EXPECT_EQ(manifest.iteration, 100);
  EXPECT_EQ(manifest.consumed_samples, 800);
  EXPECT_EQ(manifest.config_text, "train { seed: 1234 }\n");
  EXPECT_EQ(manifest.training_state.loss_scale, 65536);
  EXPECT_EQ(manifest.tensors.size(), 6U);
  const Tile whole = {{0, 0}, {6, 4}};
  EXPECT_EQ(ReadTile(reader, "layers.0.mlp.fc1.weight", "weight", whole), SmallWeight());
  EXPECT_EQ(ReadTile(reader, "layers.0.mlp.fc1.weight", "exp_avg", whole), SmallMoment());
  int64_t counter = 0;
  reader.Read("counter", "weight", {}, {}, std::as_writable_bytes(std::span(&counter, 1)));
  EXPECT_EQ(counter, 100);
  EXPECT_TRUE(ReadTile(reader, "nothing", "weight", {{0, 0}, {0, 4}}).empty());
  EXPECT_TRUE(ReadTile(reader, "layers.0.mlp.fc1.weight", "weight", {{2, 1}, {0, 3}}).empty());
}

TEST(ReaderTest, RectanglesOfRandomTilingsEqualDirectSlicing) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    const TemporaryFolder folder;
    std::mt19937 random(seed);
    std::vector<int64_t> shape(1 + seed % 4);
    for (int64_t& dimension : shape) dimension = 1 + static_cast<int64_t>(random() % 9);
    const std::vector<float> values = Values(Elements(shape), seed);
    const std::vector<Tile> tiles = RandomTiling(shape, 1 + static_cast<int>(random() % 30), seed);
    CheckpointReader reader(SaveTiled(folder.path(), values, shape, tiles, 1 + seed % 3));
    for (int i = 0; i < 40; ++i) {
      Tile tile = {std::vector<int64_t>(shape.size()), std::vector<int64_t>(shape.size())};
      for (size_t d = 0; d < shape.size(); ++d) {
        tile.offset[d] = static_cast<int64_t>(random()) % shape[d];
        tile.extent[d] = 1 + static_cast<int64_t>(random()) % (shape[d] - tile.offset[d]);
      }
      EXPECT_EQ(ReadTile(reader, "t", "weight", tile), Slice(values, shape, tile))
          << "seed " << seed << " read " << i;
    }
  }
}

TEST(ReaderTest, PartsAreReadBlockByBlockAndEachBlockOnce) {
  const std::vector<int64_t> shape = {3000, 1000};
  const std::vector<float> values = Values(Elements(shape), 0);
  const std::vector<std::vector<Tile>> tilings = {
      {{{0, 0}, shape}},
      {{{0, 0}, {1500, 1000}}, {{1500, 0}, {1500, 1000}}},                       // rows
      {{{0, 0}, {3000, 300}}, {{0, 300}, {3000, 300}}, {{0, 600}, {3000, 400}}}  // columns
  };
  for (size_t t = 0; t < tilings.size(); ++t) {
    const TemporaryFolder folder;
    const std::string directory =
        SaveTiled(folder.path(), values, shape, tilings[t], tilings[t].size());
    for (const Tile& wanted : {Tile{{0, 0}, shape}, Tile{{0, 250}, {3000, 500}},
                               Tile{{1400, 0}, {200, 1000}}, Tile{{7, 599}, {2990, 1}}}) {
      const std::vector<float> all = Slice(values, shape, wanted);
      const int64_t count = std::ssize(all);
      // Whole, one of three optimizer shards that cut a row, one element.
      for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, count},
                                        {count / 3 + 1, 2 * count / 3},
                                        {count - 1, count}}) {
        CheckpointReader reader(directory);
        std::vector<float> part(static_cast<size_t>(last - first));
        reader.ReadPart("t", "weight", wanted.offset, wanted.extent, first * sizeof(float),
                        std::as_writable_bytes(std::span(part)));
        EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first));
        EXPECT_EQ(reader.bytes_read(), NeededBytes(reader.manifest(), wanted, first, last))
            << "tiling " << t << ", elements " << first << " to " << last;
      }
    }
  }
}

TEST(ReaderTest, ChunksOfManyBlocksAreReadAndLocated) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {3000, 1000};  // 12 MB: two whole blocks and a part
  const std::vector<float> values = Values(Elements(shape), 0);
  const std::string directory = SaveTiled(folder.path(), values, shape, {{{0, 0}, shape}}, 1);
  {
    CheckpointReader reader(directory);
    EXPECT_EQ(reader.manifest().tensors[0].chunks[0].crc32c.size(), 3U);
    EXPECT_EQ(ReadTile(reader, "t", "weight", {{0, 0}, shape}), values);
    const Tile strip = {{1000, 999}, {100, 1}};
    EXPECT_EQ(ReadTile(reader, "t", "weight", strip), Slice(values, shape, strip));
    const Tile middle = {{500, 0}, {2100, 1000}};
    EXPECT_EQ(ReadTile(reader, "t", "weight", middle), Slice(values, shape, middle));
  }
  // One flipped bit in the second block.
  const std::string path = directory + "/shard-00000.safetensors";
  std::string image = ReadFile(path);
  const uint64_t data_begin = image.size() - 12'000'000;
  image[data_begin + kCrcBlockBytes + 77] ^= 4;
  WriteFile(path, image);
  const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kFull);
  ASSERT_EQ(damages.size(), 1U);
  EXPECT_EQ(damages[0].file, "shard-00000.safetensors");
  EXPECT_EQ(damages[0].tensor, "t");
  EXPECT_EQ(damages[0].kind, "weight");
  EXPECT_EQ(damages[0].byte_begin, data_begin + kCrcBlockBytes);
  EXPECT_EQ(damages[0].byte_end, data_begin + 2 * kCrcBlockBytes);
  EXPECT_TRUE(VerifyCheckpoint(directory, VerifyLevel::kQuick).empty());
  // What does not touch the block can be read; what does cannot.
  CheckpointReader reader(directory);
  const Tile sound = {{0, 0}, {1000, 1000}};
  EXPECT_EQ(ReadTile(reader, "t", "weight", sound), Slice(values, shape, sound));
  try {
    ReadTile(reader, "t", "weight", {{2000, 0}, {1, 1}});
    FAIL() << "damaged bytes were handed out";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr(path));
    EXPECT_THAT(error.what(), HasSubstr("tensor \"t\" (weight), bytes ["));
  }
}

TEST(ReaderTest, MoreShardsThanOpenFilesAreNoTrouble) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {80};
  std::vector<Tile> tiles;
  for (int64_t i = 0; i < 80; ++i) tiles.push_back({{i}, {1}});
  const std::vector<float> values = Values(80, 0);
  CheckpointReader reader(SaveTiled(folder.path(), values, shape, tiles, 80));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ReadTile(reader, "t", "weight", {{0}, {80}}), values);
}

TEST(ReaderTest, RefusesWhatDoesNotFit) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  CheckpointReader reader(directory);
  const std::string name = "layers.0.mlp.fc1.weight";
  EXPECT_THROW(ReadTile(reader, "none", "weight", {{0}, {1}}), Error);
  EXPECT_THROW(ReadTile(reader, name, "exp_avg_sq", {{0, 0}, {1, 1}}), Error);
  EXPECT_THROW(ReadTile(reader, name, "weight", {{0}, {1}}), Error);
  EXPECT_THROW(ReadTile(reader, name, "weight", {{0, 0}, {7, 1}}), Error);
  EXPECT_THROW(ReadTile(reader, name, "weight", {{-1, 0}, {1, 1}}), Error);
  std::vector<float> small(3);
  const std::vector<int64_t> zero = {0, 0};
  const std::vector<int64_t> extent = {2, 2};
  for (const uint64_t begin : {uint64_t{2}, uint64_t{8}, uint64_t{20}, ~uint64_t{3}}) {
    EXPECT_THROW(reader.ReadPart(name, "weight", zero, extent, begin,
                                 std::as_writable_bytes(std::span(small))),
                 Error);
  }
  EXPECT_THROW(reader.Read(name, "weight", zero, extent, std::as_writable_bytes(std::span(small))),
               Error);
  EXPECT_THROW(CheckpointReader(folder / "none"), Error);
}

TEST(ReaderTest, MissingAndSwappedShardsAreRefused) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 100);
  const std::string a = directory + "/shard-00000.safetensors";
  const std::string b = directory + "/shard-00001.safetensors";
  const Tile whole = {{0, 0}, {6, 4}};
  std::filesystem::rename(a, a + ".away");
  EXPECT_THROW(
      {
        CheckpointReader reader(directory);
        ReadTile(reader, "layers.0.mlp.fc1.weight", "weight", whole);
      },
      Error);
  std::filesystem::rename(b, a);
  std::filesystem::rename(a + ".away", b);
  EXPECT_THROW(
      {
        CheckpointReader reader(directory);
        ReadTile(reader, "layers.0.mlp.fc1.weight", "weight", whole);
      },
      Error);
}

TEST(ReaderTest, WriterRefusesRectanglesOutsideTheirTensor) {
  const TemporaryFolder folder;
  ShardWriter writer(folder.path(), "s.safetensors");
  const std::vector<float> data(4);
  const auto bytes = std::as_bytes(std::span(data));
  EXPECT_THROW(writer.Add({"t", "weight", "F32", {4}, {1}, {4}, bytes}), Error);
  EXPECT_THROW(writer.Add({"t", "weight", "F32", {4}, {0}, {3}, bytes}), Error);
  EXPECT_THROW(writer.Add({"t", "weight", "F33", {4}, {0}, {4}, bytes}), Error);
  EXPECT_THROW(writer.Add({"t", "weight", "F32", {4, 1}, {0}, {4}, bytes}), Error);
  // An empty rectangle is a rank's right; the file has no tensor then.
  writer.Add({"t", "weight", "F32", {4}, {2}, {0}, {}});
  EXPECT_TRUE(writer.Write().tensors.empty());
}

}  // namespace
}  // namespace cairn
