#include "runtime/tensor/tensor.h"

#include <gtest/gtest.h>

#include <numeric>

namespace cairn {
namespace {

class TensorTest : public ::testing::Test {
 protected:
  Tensor Iota(const Shape& shape) {
    std::vector<float> elements(static_cast<size_t>(shape.numel()));
    std::iota(elements.begin(), elements.end(), 0.0f);
    return Tensor::FromHost<float>(elements, shape, *device_);
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_F(TensorTest, ShapeBasics) {
  EXPECT_EQ(Shape({2, 3, 4}).numel(), 24);
  EXPECT_EQ(Shape({2, 0}).numel(), 0);
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ(Shape({2, 3}).ToString(), "[2, 3]");
  EXPECT_EQ(Shape({2, 3}), Shape({2, 3}));
  EXPECT_FALSE(Shape({2, 3}) == Shape({2, 3, 1}));
}

TEST_F(TensorTest, FreshTensorIsContiguousRowMajor) {
  const Tensor x = Iota({2, 3, 4});
  EXPECT_TRUE(x.contiguous());
  EXPECT_EQ(x.stride(0), 12);
  EXPECT_EQ(x.stride(-1), 1);
  EXPECT_EQ(x.dim(-2), 3);
  EXPECT_EQ(x.bytes(), 96U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.raw()) % 64, 0U);
}

TEST_F(TensorTest, ViewsShareMemory) {
  const Tensor x = Iota({2, 6});
  const Tensor view = x.View({3, 4});
  view.data<float>()[5] = -1.0f;
  EXPECT_EQ(x.ToHost<float>()[5], -1.0f);
  const Tensor row = x.Select(1);
  EXPECT_EQ(row.shape(), Shape({6}));
  EXPECT_EQ(row.ToHost<float>(), (std::vector<float>{6, 7, 8, 9, 10, 11}));
}

TEST_F(TensorTest, NarrowOfAnInnerDimensionIsStrided) {
  const Tensor x = Iota({3, 5});
  const Tensor columns = x.Narrow(1, 2, 2);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(columns.ToHost<float>(), (std::vector<float>{2, 3, 7, 8, 12, 13}));
  EXPECT_EQ(columns.Select(1).ToHost<float>(), (std::vector<float>{7, 8}));
  EXPECT_EQ(columns.Narrow(0, 1, 2).Narrow(1, 1, 1).ToHost<float>(), (std::vector<float>{8, 13}));
  // One row of it, or one column of a one-column tensor, has no gaps.
  EXPECT_TRUE(columns.Narrow(0, 1, 1).contiguous());
  EXPECT_TRUE(x.Narrow(0, 1, 2).contiguous());
  EXPECT_TRUE(columns.EmptyLike().contiguous());
}

TEST_F(TensorTest, EmptyExtents) {
  const Tensor x = Tensor::Zeros({0, 4}, DType::kFloat32, *device_);
  EXPECT_TRUE(x.defined());
  EXPECT_EQ(x.raw(), nullptr);
  EXPECT_TRUE(x.ToHost<float>().empty());
  const Tensor none = Iota({3, 4}).Narrow(0, 3, 0);
  EXPECT_EQ(none.numel(), 0);
}

TEST_F(TensorTest, MemoryIsReturnedWithTheLastView) {
  const auto in_use = [&] { return device_->allocator().stats().current_total; };
  Tensor row;
  {
    const Tensor x = Tensor::Zeros({8, 8}, DType::kFloat32, *device_);
    row = x.Select(3);
  }
  EXPECT_EQ(in_use(), 256);
  row = Tensor();
  EXPECT_EQ(in_use(), 0);
}

TEST_F(TensorTest, MetaHasShapesAndCountsBytes) {
  const auto meta = NewMetaDevice();
  // 4 TiB: nothing is taken.
  const Tensor x = Tensor::Zeros({1 << 20, 1 << 20}, DType::kFloat32, *meta);
  EXPECT_TRUE(x.on_meta());
  EXPECT_EQ(x.raw(), nullptr);
  EXPECT_EQ(x.Narrow(1, 7, 9).Select(3).shape(), Shape({9}));
  EXPECT_EQ(meta->allocator().stats().current_total, int64_t{4} << 40);
}

using TensorDeathTest = TensorTest;

TEST_F(TensorDeathTest, BrokenPromisesStopTheProgram) {
  const Tensor x = Iota({2, 6});
  EXPECT_DEATH(x.data<double>(), "tensor of fp32 read as fp64");
  EXPECT_DEATH((void)x.View({5}), R"(\[2, 6\] as \[5\])");
  EXPECT_DEATH((void)x.Narrow(1, 4, 3), R"(4\+3 of \[2, 6\])");
  EXPECT_DEATH((void)x.Narrow(1, 0, 3).View({6}), "contiguous");
  EXPECT_DEATH((void)x.Select(2), "");
  const auto meta = NewMetaDevice();
  EXPECT_DEATH((void)Tensor::Zeros({2}, DType::kFloat32, *meta).ToHost<float>(), "meta");
}

}  // namespace
}  // namespace cairn
