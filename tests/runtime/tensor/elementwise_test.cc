#include "runtime/tensor/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/error.h"

namespace cairn {
namespace {

class ElementwiseTest : public ::testing::Test {
 protected:
  Tensor Ramp(const Shape& shape, DType dtype = DType::kFloat32) {
    std::vector<float> elements(static_cast<size_t>(shape.numel()));
    for (size_t i = 0; i < elements.size(); ++i) {
      elements[i] = static_cast<float>(i) * 0.37f - 5.0f;
    }
    return As(Tensor::FromHost<float>(elements, shape, *device_), dtype);
  }
  static Tensor As(const Tensor& x, DType dtype) {
    Tensor converted = Tensor::Empty(x.shape(), dtype, x.device());
    CopyTo(converted, x);
    return converted;
  }
  static std::vector<float> Floats(const Tensor& x) {
    return As(x, DType::kFloat32).ToHost<float>();
  }
  // What `value` becomes in `dtype`.
  static float Rounded(float value, DType dtype) {
    float rounded = 0;
    DispatchFloating("test", dtype,
                     [&](auto zero) { rounded = static_cast<float>(decltype(zero)(value)); });
    return rounded;
  }

  static constexpr DType kFloating[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_F(ElementwiseTest, FillAndScale) {
  for (DType dtype : kFloating) {
    const Tensor x = Tensor::Empty({1001}, dtype, *device_);
    Fill(x, 1.7);
    for (float e : Floats(x)) ASSERT_EQ(e, Rounded(1.7f, dtype));
    Scale(x, 3.0);
    for (float e : Floats(x)) ASSERT_EQ(e, Rounded(3.0f * Rounded(1.7f, dtype), dtype));
    FillZero(x);
    for (float e : Floats(x)) ASSERT_EQ(e, 0.0f);
  }
  const Tensor x = Tensor::Empty({7}, DType::kFloat64, *device_);
  Fill(x, 0.1);
  Scale(x, 3.0);
  for (double e : x.ToHost<double>()) ASSERT_EQ(e, 0.1 * 3.0);
}

TEST_F(ElementwiseTest, ConversionsBetweenEveryPair) {
  for (DType from : kFloating) {
    const Tensor source = Ramp({5, 77}, from);
    const std::vector<float> elements = Floats(source);
    for (DType to : kFloating) {
      const std::vector<float> converted = Floats(As(source, to));
      for (size_t i = 0; i < elements.size(); ++i) {
        ASSERT_EQ(converted[i], Rounded(elements[i], to)) << DTypeName(from) << DTypeName(to);
      }
    }
  }
}

TEST_F(ElementwiseTest, StridedCopies) {
  const Tensor x = Ramp({4, 6, 5});
  const auto elements = x.ToHost<float>();
  for (DType to : kFloating) {  // with and without conversion
    const Tensor out = Tensor::Zeros({4, 9, 7}, to, *device_);
    CopyTo(out.Narrow(1, 2, 3).Narrow(2, 1, 4), x.Narrow(1, 3, 3).Narrow(2, 0, 4));
    const std::vector<float> copied = Floats(out);
    for (int64_t a = 0; a < 4; ++a) {
      for (int64_t b = 0; b < 9; ++b) {
        for (int64_t c = 0; c < 7; ++c) {
          const bool inside = b >= 2 && b < 5 && c >= 1 && c < 5;
          const float expected = inside ? Rounded(elements[(a * 6 + b + 1) * 5 + c - 1], to) : 0.0f;
          ASSERT_EQ(copied[(a * 9 + b) * 7 + c], expected) << a << b << c;
        }
      }
    }
  }
}

TEST_F(ElementwiseTest, ContiguousCopyOfAColumn) {
  const Tensor x = Ramp({6, 4});
  const Tensor column = ContiguousCopy(x.Narrow(1, 2, 1));
  EXPECT_TRUE(column.contiguous());
  const auto elements = x.ToHost<float>();
  const auto copied = column.ToHost<float>();
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(copied[i], elements[4 * i + 2]);
  const std::vector<int32_t> ids = {1, 2, 3, 4};
  const Tensor tokens = Tensor::FromHost<int32_t>(ids, {2, 2}, *device_);
  EXPECT_EQ(ContiguousCopy(tokens.Narrow(1, 1, 1)).ToHost<int32_t>(), (std::vector<int32_t>{2, 4}));
}

TEST_F(ElementwiseTest, AddToRoundsOnceAcrossDTypes) {
  for (DType to : kFloating) {
    for (DType from : kFloating) {
      const Tensor sum = Ramp({1, 333}, to);
      const Tensor term = Ramp({333}, from);
      const auto a = Floats(sum);
      const auto b = Floats(term);
      AddTo(sum, term);
      const auto out = Floats(sum);
      for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], Rounded(a[i] + b[i], to));
    }
  }
}

TEST_F(ElementwiseTest, AddMayWriteOverAnOperand) {
  for (DType dtype : kFloating) {
    const Tensor a = Ramp({333}, dtype);
    const Tensor b = Ramp({333}, dtype);
    const auto before = Floats(a);
    Add(a, a, b);
    const auto out = Floats(a);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i], Rounded(before[i] + before[i], dtype));
    }
  }
}

TEST_F(ElementwiseTest, LargeTensorsOverThreads) {
  const int64_t n = (1 << 18) + 3;
  const Tensor x = Ramp({n});
  const Tensor y = x.EmptyLike();
  Add(y, x, x);
  const auto in = x.ToHost<float>();
  const auto out = y.ToHost<float>();
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(out[i], in[i] + in[i]);
}

TEST_F(ElementwiseTest, IntegersHaveNoArithmetic) {
  const Tensor x = Tensor::Zeros({3}, DType::kInt32, *device_);
  EXPECT_THROW(Scale(x, 2.0), Error);
  EXPECT_THROW(Fill(x, 2.0), Error);
}

TEST_F(ElementwiseTest, EmptyTensors) {
  const Tensor x = Tensor::Empty({0, 3}, DType::kFloat32, *device_);
  Fill(x, 1.0);
  FillZero(x);
  AddTo(x, x);
  EXPECT_EQ(ContiguousCopy(x).numel(), 0);
}

}  // namespace
}  // namespace cairn
