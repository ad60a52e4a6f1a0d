#include "parallel/initialize.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cairn {
namespace {

constexpr int64_t kRows = 1301;  // of the logical vocabulary
constexpr int64_t kPaddedRows = 1302;
constexpr int64_t kColumns = 2000;

class InitializeTest : public ::testing::Test {
 protected:
  // The elements of a rank's part, made in pieces of `piece` elements.
  std::vector<float> Make(const ShardSpec& shard, int64_t piece) {
    Parameter parameter;
    parameter.name = "embedding.token.weight";
    parameter.shard = shard;
    parameter.init = {InitSpec::Kind::kNormal, 0.5};
    const Tensor whole = Tensor::Empty({shard.local_shape.numel()}, DType::kFloat32, *device_);
    for (int64_t begin = 0; begin < whole.numel(); begin += piece) {
      const int64_t count = std::min(piece, whole.numel() - begin);
      InitializeWeights({&parameter, "weight", whole.Narrow(0, begin, count), begin}, 7);
    }
    return whole.ToHost<float>();
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

// Large enough that the host makes it in several parts, wherever they begin.
TEST_F(InitializeTest, AnElementDependsOnItsPlaceInTheWholeAlone) {
  const auto shard = [](int tp, int rank) {
    return ShardSpec::SplitPadded({kRows, kColumns}, kPaddedRows, tp, rank);
  };
  const std::vector<float> whole = Make(shard(1, 0), kPaddedRows * kColumns);
  ASSERT_EQ(whole.size(), kPaddedRows * kColumns);
  EXPECT_TRUE(
      std::all_of(whole.begin() + kRows * kColumns, whole.end(), [](float x) { return x == 0; }));
  EXPECT_FALSE(
      std::any_of(whole.begin(), whole.begin() + kRows * kColumns, [](float x) { return x == 0; }));
  EXPECT_EQ(Make(shard(1, 0), 777'777), whole);
  std::vector<float> parts;
  for (int rank = 0; rank < 2; ++rank) {
    const std::vector<float> part = Make(shard(2, rank), 1'234'567);
    parts.insert(parts.end(), part.begin(), part.end());
  }
  EXPECT_EQ(parts, whole);
}

}  // namespace
}  // namespace cairn
