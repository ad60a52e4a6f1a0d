#include "runtime/checkpoint/tensor_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

TEST(TensorStreamTest, ReadsInRowMajorOrderWhateverTheTilingAndThePieces) {
  for (uint32_t seed = 0; seed < 24; ++seed) {
    const TemporaryFolder folder;
    std::mt19937 random(seed);
    std::vector<int64_t> shape(seed % 5);
    for (int64_t& dimension : shape) dimension = 1 + static_cast<int64_t>(random() % 7);
    const std::string bytes = BytesOf(Values(Elements(shape), seed));
    CheckpointReader reader(WriteTiledCheckpoint(folder.path(), {},
                                                 {{"t", "weight", "F32", shape, bytes}},
                                                 1 + static_cast<int>(random() % 20), 3, seed));
    for (const uint64_t most : {1, 4, 12, 40, 100, 1 << 20}) {
      TensorStream stream(reader, *reader.Find("t", "weight"), most);
      std::string read;
      for (auto piece = stream.Next(); !piece.empty(); piece = stream.Next()) {
        EXPECT_LE(piece.size(), std::max<uint64_t>(most, 4));
        read.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      }
      EXPECT_EQ(read, bytes) << "seed " << seed << ", pieces of " << most;
      EXPECT_TRUE(stream.Next().empty());
    }
  }
}

TEST(TensorStreamTest, NothingComesFromATensorWithoutElements) {
  const TemporaryFolder folder;
  CheckpointReader reader(WriteTiledCheckpoint(
      folder.path(), {}, {{"t", "weight", "F32", {int64_t{1} << 60, 0}, ""}}, 1, 1, 0));
  EXPECT_TRUE(TensorStream(reader, *reader.Find("t", "weight")).Next().empty());
}

}  // namespace
}  // namespace cairn
