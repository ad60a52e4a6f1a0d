#include "parallel/checkpoint.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "parallel/local_communicator.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"

namespace cairn {
namespace {

class LoadTest : public ::testing::Test {
 protected:
  LoadTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "cairn_load_XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  ~LoadTest() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

const Shape kShape{6000, 1000};  // 24 MB, almost six blocks

float ValueAt(int64_t row, int64_t column) { return static_cast<float>(row * kShape[1] + column); }

// Each rank's part of the tensor under `shard`, 1/replicas of it where the optimizer is sharded.
struct Cut {
  const char* name;
  int dim;
  int parts;
  int replicas;

  int ranks() const { return parts * replicas; }
  // The rank's piece over memory of its own.
  StatePiece PieceOf(int rank, Parameter& parameter, Device& device) const {
    parameter.name = "t";
    parameter.shard = dim == 0 ? ShardSpec::SplitPadded(kShape, 6144, parts, rank / replicas)
                               : ShardSpec::Split(kShape, dim, parts, rank / replicas);
    const int64_t numel = parameter.shard.local_shape.numel();
    const int64_t begin = numel * (rank % replicas) / replicas;
    const int64_t end = numel * (rank % replicas + 1) / replicas;
    return {&parameter, "weight", Tensor::Zeros({end - begin}, DType::kFloat32, device), begin,
            true};
  }
};

// Calls `visit` with the place in the piece, the row and the column of its elements.
void ForEachElement(const StatePiece& piece,
                    const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  const auto& held = piece.parameter->shard.held;
  for (int64_t i = 0; i < piece.data.numel(); ++i) {
    const int64_t flat = piece.begin + i;
    if (flat >= held.numel()) break;
    visit(i, held.offset[0] + flat / held.extent[1], held.offset[1] + flat % held.extent[1]);
  }
}

TEST_F(LoadTest, EachRankReadsItsBytesAndTheBlocksAroundThem) {
  const std::vector<Cut> cuts = {{"whole", 1, 1, 1},
                                 {"rows", 0, 3, 1},
                                 {"columns", 1, 4, 1},
                                 {"rows, sharded", 0, 2, 3},
                                 {"columns, sharded", 1, 2, 3}};
  const std::unique_ptr<Device> device = NewCpuDevice();
  for (size_t from = 0; from < cuts.size(); ++from) {
    std::string directory;
    RunLocalRanks(cuts[from].ranks(), [&](Communicator& world) {
      Parameter parameter;
      const StatePiece piece = cuts[from].PieceOf(world.rank(), parameter, *device);
      ForEachElement(piece, [&](int64_t i, int64_t row, int64_t column) {
        piece.data.data<float>()[i] = ValueAt(row, column);
      });
      Manifest description;
      description.iteration = static_cast<int64_t>(from);
      const std::string path = SaveCheckpoint(world, folder_, description, {piece});
      if (world.rank() == 0) directory = path;
    });
    for (const Cut& to : cuts) {
      for (int rank = 0; rank < to.ranks(); ++rank) {
        Parameter parameter;
        const StatePiece piece = to.PieceOf(rank, parameter, *device);
        CheckpointReader reader(directory);
        LoadPieces(reader, {piece});
        int64_t wrong = 0;
        ForEachElement(piece, [&](int64_t i, int64_t row, int64_t column) {
          wrong += piece.data.data<float>()[i] == ValueAt(row, column) ? 0 : 1;
        });
        EXPECT_EQ(wrong, 0) << cuts[from].name << " to " << to.name << ", rank " << rank;
        // Of each chunk: the headers, what is wanted, and less than a block at either end. Columns
        // of a chunk that others want lie between its rows.
        uint64_t most = 0;
        const auto& held = parameter.shard.held;
        const int64_t end = std::min(piece.begin + piece.data.numel(), held.numel());
        if (piece.begin < end) {
          const int64_t first_row = held.offset[0] + piece.begin / held.extent[1];
          const int64_t last_row = held.offset[0] + (end - 1) / held.extent[1];
          for (const Chunk& chunk : reader.manifest().tensors[0].chunks) {
            const int64_t rows = std::min(last_row + 1, chunk.offset[0] + chunk.extent[0]) -
                                 std::max(first_row, chunk.offset[0]);
            const bool meets = rows > 0 && chunk.offset[1] < held.offset[1] + held.extent[1] &&
                               held.offset[1] < chunk.offset[1] + chunk.extent[1];
            if (!meets) continue;
            most += reader.manifest().files[chunk.file].header_bytes +
                    static_cast<uint64_t>(rows * chunk.extent[1]) * sizeof(float) +
                    2 * kCrcBlockBytes;
          }
        }
        EXPECT_LE(reader.bytes_read(), most)
            << cuts[from].name << " to " << to.name << ", rank " << rank;
      }
    }
  }
}

}  // namespace
}  // namespace cairn
