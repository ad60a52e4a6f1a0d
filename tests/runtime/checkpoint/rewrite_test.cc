#include "runtime/checkpoint/rewrite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/store.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// Tensor "t" cut into `tiles`, dealt out to `shards` shards.
std::vector<ShardPlan> Plan(const std::vector<Tile>& tiles, size_t shards) {
  std::vector<ShardPlan> plans(shards);
  for (size_t s = 0; s < shards; ++s) {
    plans[s].file_name = ShardFileName(static_cast<int>(s));
    for (size_t i = s; i < tiles.size(); i += shards) {
      plans[s].parts.push_back({"t", "weight", tiles[i].offset, tiles[i].extent});
    }
  }
  return plans;
}

// Rewrites into `target` and returns the bytes that it read.
uint64_t Rewrite(const std::string& source, const std::vector<ShardPlan>& plans,
                 const std::string& target, uint64_t section_bytes = kCrcBlockBytes) {
  CheckpointReader reader(source);
  CheckShardPlans(reader, plans);
  Manifest description = reader.manifest();
  description.tensors.clear();
  description.files.clear();
  RewriteCheckpoint(reader, std::move(description), plans, target, section_bytes);
  return reader.bytes_read();
}

std::vector<float> ReadWhole(const std::string& checkpoint, const std::vector<int64_t>& shape) {
  CheckpointReader reader(checkpoint);
  std::vector<float> values(static_cast<size_t>(Elements(shape)));
  reader.Read("t", "weight", std::vector<int64_t>(shape.size(), 0), shape,
              std::as_writable_bytes(std::span(values)));
  return values;
}

// `count` columns of equal width.
std::vector<Tile> Columns(const std::vector<int64_t>& shape, int64_t count) {
  std::vector<Tile> tiles;
  for (int64_t i = 0; i < count; ++i) {
    tiles.push_back({{0, i * shape[1] / count}, {shape[0], shape[1] / count}});
  }
  return tiles;
}

TEST(RewriteTest, AnyTilingBecomesAnyOther) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    const TemporaryFolder folder;
    const std::vector<int64_t> shape(1 + seed % 4, 3 + seed % 5);
    const std::vector<float> values = Values(Elements(shape), seed);
    const std::string source =
        SaveTiled(folder.path(), values, shape, RandomTiling(shape, 9, seed), 1 + seed % 3);
    const std::vector<Tile> tiles = RandomTiling(shape, 7, seed + 100);
    Rewrite(source, Plan(tiles, 2), folder / "new");
    EXPECT_TRUE(VerifyCheckpoint(folder / "new", VerifyLevel::kFull).empty());
    EXPECT_EQ(ReadWhole(folder / "new", shape), values) << seed;
    const CheckpointReader reader(folder / "new");
    EXPECT_EQ(reader.manifest().tensors[0].chunks.size(), tiles.size());
  }
}

TEST(RewriteTest, ThereAndBackIsTheSameToTheByte) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {6, 8};
  const std::string source = SaveTiled(folder.path(), Values(48, 0), shape, Columns(shape, 2), 2);
  Rewrite(source, Plan(Columns(shape, 4), 4), folder / "there");
  Rewrite(folder / "there", Plan(Columns(shape, 2), 2), folder / "back");
  for (const char* name : {"/MANIFEST.pb", "/COMMIT", "/shard-00000.safetensors"}) {
    EXPECT_EQ(ReadFile(folder / "back" + name), ReadFile(source + name)) << name;
  }
}

// Four columns to one whole and back: 48 MB of 4 MiB blocks that each serve many rows.
TEST(RewriteTest, AWiderSectionReadsLess) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {12000, 1000};
  const uint64_t bytes = 48'000'000;
  const std::vector<float> values = Values(Elements(shape), 0);
  const std::string source = SaveTiled(folder.path(), values, shape, Columns(shape, 4), 4);
  // Every row needs a block of each column: one section is all, or each block is read for each.
  EXPECT_LT(Rewrite(source, Plan({{{0, 0}, shape}}, 1), folder / "wide", 2 * bytes), 1.01 * bytes);
  EXPECT_EQ(ReadWhole(folder / "wide", shape), values);
  const uint64_t narrow = Rewrite(source, Plan({{{0, 0}, shape}}, 1), folder / "narrow");
  EXPECT_GT(narrow, 3 * bytes);
  EXPECT_LT(narrow, 6 * bytes);
  EXPECT_EQ(ReadFile(folder / "narrow/MANIFEST.pb"), ReadFile(folder / "wide/MANIFEST.pb"));
  // Each new column needs every block of the old whole.
  EXPECT_LT(Rewrite(folder / "wide", Plan(Columns(shape, 4), 4), folder / "columns", 2 * bytes),
            4.01 * bytes);
}

TEST(RewriteTest, RefusesPlansThatLoseOrMakeUp) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {6, 4};
  CheckpointReader reader(SaveTiled(folder.path(), Values(24, 0), shape, {{{0, 0}, shape}}, 1));
  const auto problem = [&](const std::vector<ShardPlan>& plans) -> std::string {
    try {
      CheckShardPlans(reader, plans);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(problem(Plan({{{0, 0}, shape}}, 1)), "");
  EXPECT_THAT(problem({}), HasSubstr("tensor \"t\" (weight) would not pass whole: chunks leave"));
  EXPECT_THAT(problem(Plan({{{0, 0}, {6, 3}}}, 1)), HasSubstr("hole"));
  EXPECT_THAT(problem(Plan({{{0, 0}, {6, 3}}, {{0, 2}, {6, 2}}}, 1)), HasSubstr("overlap"));
  EXPECT_THAT(problem({{"a.safetensors", {{"u", "weight", {0}, {1}}}}}), HasSubstr("\"u\""));
}

TEST(RewriteTest, WritesOnlyToANewPath) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {6, 4};
  const std::string source = SaveTiled(folder.path(), Values(24, 0), shape, {{{0, 0}, shape}}, 1);
  const std::vector<ShardPlan> plans = Plan(Columns(shape, 2), 2);
  std::filesystem::create_directories(folder / "there");
  for (const std::string& target : {source, folder / "there", folder / "step-00000002"}) {
    try {
      Rewrite(source, plans, target);
      FAIL() << target;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr(target));
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder / "there"));
  Rewrite(source, plans, folder / "deep/run/step-00000001/");
  EXPECT_EQ(ReadWhole(folder / "deep/run/step-00000001", shape), Values(24, 0));
}

TEST(RewriteTest, DamagedBytesLeaveNoCheckpoint) {
  const TemporaryFolder folder;
  const std::vector<int64_t> shape = {6, 4};
  const std::string source =
      SaveTiled(folder.path(), Values(24, 0), shape, {{{0, 0}, {3, 4}}, {{3, 0}, {3, 4}}}, 2);
  const std::string path = source + "/shard-00001.safetensors";
  std::string image = ReadFile(path);
  image.back() ^= 1;
  WriteFile(path, image);
  EXPECT_THROW(Rewrite(source, Plan(Columns(shape, 2), 2), folder / "new"), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
}

}  // namespace
}  // namespace cairn
