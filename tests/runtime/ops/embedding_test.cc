#include "runtime/ops/embedding.h"

#include <gtest/gtest.h>

#include "jacobian_testing.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

Tensor Tokens(Device& device, const std::vector<int32_t>& ids) {
  return Tensor::FromHost<int32_t>(ids, {static_cast<int64_t>(ids.size())}, device);
}

TEST(EmbeddingTest, JacobianWithRepeatedAndForeignTokens) {
  const auto device = NewCpuDevice();
  Weight table{RandomTensor(*device, {5, 7}, 41)};
  const Tensor tokens = Tokens(*device, {10, 14, 12, 12, 9, 15, 10, -1});
  testing::CheckJacobian(
      [&](Tape& tape, std::span<const Value>) { return Embedding(tape, tokens, table, 10); }, {},
      {&table}, {.max_probes = 35});
}

TEST(EmbeddingTest, RanksAddUpToTheWholeTable) {
  const auto device = NewCpuDevice();
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const Tensor table = RandomTensor(*device, {9, 6}, 42, 1, 0, dtype);
    const Tensor tokens = Tokens(*device, {8, 0, 4, 5, 3, 2147483647});
    Weight whole{table};
    Weight first{table.Narrow(0, 0, 5)};
    Weight second{table.Narrow(0, 5, 4)};
    Tape tape({.recording = false});
    const Value y = Embedding(tape, tokens, whole, 0);
    const Value a = Embedding(tape, tokens, first, 0);
    const Value b = Embedding(tape, tokens, second, 5);
    const Tensor sum = y.data.EmptyLike();
    Add(sum, a.data, b.data);
    EXPECT_EQ(Bits(sum), Bits(y.data));
    EXPECT_EQ(Bits(y.data.Select(0)), Bits(table.Select(8)));
    EXPECT_EQ(testing::ToDoubles(y.data.Select(5)), std::vector<double>(6, 0.0));
  }
}

TEST(EmbeddingTest, NeedsAGradientOnlyForItsTable) {
  const auto device = NewCpuDevice();
  Weight table{RandomTensor(*device, {5, 7}, 43)};
  const Tensor tokens = Tokens(*device, {1});
  Tape tape;
  EXPECT_FALSE(Embedding(tape, tokens, table, 0).needs_gradient());
  MainGrad grad(Tensor::Zeros({5, 7}, DType::kFloat32, *device));
  table.grad = &grad;
  EXPECT_TRUE(Embedding(tape, tokens, table, 0).needs_gradient());
}

TEST(PositionEmbeddingTest, Jacobian) {
  const auto device = NewCpuDevice();
  Weight table{RandomTensor(*device, {6, 5}, 44)};  // one position more than a sample has
  for (int64_t first_token : {0, 3, 12}) {
    testing::CheckJacobian(
        [&](Tape& tape, std::span<const Value> in) {
          return AddPositionEmbedding(tape, in[0], table, 5, first_token);
        },
        {RandomTensor(*device, {11, 5}, 45)}, {&table});
  }
}

TEST(PositionEmbeddingTest, ShardsOfASequenceAgreeWithTheWhole) {
  const auto device = NewCpuDevice();
  Weight table{RandomTensor(*device, {8, 33}, 46, 1, 0, DType::kBFloat16)};
  const Tensor x = RandomTensor(*device, {16, 33}, 47, 1, 0, DType::kBFloat16);
  Tape tape({.recording = false});
  const Value whole = AddPositionEmbedding(tape, Value{x}, table, 8, 0);
  for (int64_t first : {0, 4, 8, 12}) {
    const Value part = AddPositionEmbedding(tape, Value{x.Narrow(0, first, 4)}, table, 8, first);
    EXPECT_EQ(Bits(part.data), Bits(whole.data.Narrow(0, first, 4))) << first;
  }
}

TEST(PositionEmbeddingDeathTest, RefusesALongerSequenceThanTheTable) {
  const auto device = NewCpuDevice();
  Weight table{RandomTensor(*device, {8, 3}, 48)};
  Tape tape;
  const Value x{RandomTensor(*device, {9, 3}, 49)};
  EXPECT_DEATH(AddPositionEmbedding(tape, x, table, 9, 0), "9 positions of 8");
}

}  // namespace
}  // namespace cairn
