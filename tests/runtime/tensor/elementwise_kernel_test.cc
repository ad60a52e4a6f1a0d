#include "runtime/tensor/elementwise_kernel.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

// Copies element by element as a GPU does, and compares with what CopyTo does on the CPU.
void ExpectSameCopy(const Tensor& destination, const Tensor& source, int rank) {
  const CopyLayout layout = MakeCopyLayout(destination, source);
  EXPECT_EQ(layout.rank, rank);
  const Tensor expected = ContiguousCopy(source);
  for (int64_t i = 0; i < destination.numel(); ++i) {
    const CopyPlace place = PlaceOf(layout, i);
    destination.data<float>()[place.to] = source.data<float>()[place.from];
  }
  EXPECT_EQ(destination.ToHost<float>(), expected.ToHost<float>());
}

TEST(CopyLayoutTest, FindsEveryElementOfStridedViews) {
  const auto device = NewCpuDevice();
  std::vector<float> numbers(3 * 4 * 5);
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  const Tensor whole = Tensor::FromHost<float>(numbers, {3, 4, 5}, *device);
  ExpectSameCopy(whole.EmptyLike(), whole, 1);
  const auto empty = [&](const Tensor& like) { return like.EmptyLike(); };
  const Tensor middle = whole.Narrow(1, 1, 2);
  ExpectSameCopy(empty(middle), middle, 2);
  const Tensor corner = middle.Narrow(2, 1, 3);
  ExpectSameCopy(empty(corner), corner, 3);
  const Tensor row = whole.Narrow(0, 1, 1).Narrow(1, 2, 1);
  ExpectSameCopy(empty(row), row, 1);
  // Strided on both sides.
  const Tensor other = Tensor::Zeros({3, 4, 5}, DType::kFloat32, *device);
  ExpectSameCopy(other.Narrow(1, 0, 2), middle, 2);
}

TEST(CopyLayoutTest, OneElement) {
  const auto device = NewCpuDevice();
  const Tensor one = Tensor::Zeros({1, 1}, DType::kFloat32, *device);
  EXPECT_EQ(MakeCopyLayout(one, one).rank, 0);
  EXPECT_EQ(PlaceOf(MakeCopyLayout(one, one), 0).to, 0);
}

}  // namespace
}  // namespace cairn
