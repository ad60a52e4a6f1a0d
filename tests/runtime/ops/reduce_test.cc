#include "runtime/ops/reduce.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "jacobian_testing.h"
#include "runtime/ops/reduce_rows.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

class ReduceTest : public ::testing::Test {
 protected:
  void TearDown() override { omp_set_num_threads(threads_); }

  Tensor Zeros(int64_t n) { return Tensor::Zeros({n}, DType::kFloat64, *device_); }
  // Magnitudes from 1e-20 to 1e5.
  Tensor WideRange(int64_t n) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> exponent(-20, 5);
    std::uniform_real_distribution<float> significand(-10, 10);
    std::vector<float> x(static_cast<size_t>(n));
    for (float& e : x) e = significand(random) * std::pow(10.0f, exponent(random));
    return Tensor::FromHost<float>(x, {n}, *device_);
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
  const int threads_ = omp_get_max_threads();
};

TEST_F(ReduceTest, SumsOfEveryDTypeAndLength) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (int64_t n : {0, 1, 15, 17, 4096, 4097, 100003}) {
      const Tensor x = RandomTensor(*device_, {n}, 71, 1.0, 0.25, dtype);
      double sum = 0;
      double squares = 0;
      for (double e : testing::ToDoubles(x)) {
        sum += e;
        squares += e * e;
      }
      const Tensor total = Zeros(1);
      const Tensor square_total = Zeros(1);
      for (int i = 0; i < 2; ++i) {  // adds
        AddSum(total, x);
        AddSumOfSquares(square_total, x);
      }
      const double scale = 1e-12 * static_cast<double>(n + 1);
      EXPECT_NEAR(total.ToHost<double>()[0], 2 * sum, scale) << n << DTypeName(dtype);
      EXPECT_NEAR(square_total.ToHost<double>()[0], 2 * squares, scale) << n << DTypeName(dtype);
    }
  }
}

TEST_F(ReduceTest, NumberOfThreadsChangesNoBit) {
  const Tensor x = WideRange(200001);
  std::vector<std::vector<double>> sums;
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    const Tensor total = Zeros(1);
    AddSumOfSquares(total, x);
    sums.push_back(total.ToHost<double>());
  }
  EXPECT_EQ(sums[0], sums[1]);
  EXPECT_EQ(sums[0], sums[2]);
}

TEST_F(ReduceTest, ExactBinsAreThoseOfExactScalar) {
  for (int64_t n : {0, 1, 100, 5000, 70001}) {
    const Tensor x = WideRange(n);
    ExactScalar sum;
    ExactScalar squares;
    for (double e : testing::ToDoubles(x)) {
      sum.Add(e);
      squares.Add(e * e);
    }
    const Tensor bins = Zeros(ExactScalar::kBins);
    AddExactSum(bins, x);
    EXPECT_EQ(bins.ToHost<double>(), std::vector<double>(sum.bins().begin(), sum.bins().end()));
    const Tensor square_bins = Zeros(ExactScalar::kBins);
    AddExactSumOfSquares(square_bins, x);
    EXPECT_EQ(square_bins.ToHost<double>(),
              std::vector<double>(squares.bins().begin(), squares.bins().end()));
  }
}

TEST_F(ReduceTest, NeitherOrderNorSplitNorThreadsChangeExactBins) {
  const int64_t n = 60000;
  const Tensor x = WideRange(n);
  const Tensor reference = Zeros(ExactScalar::kBins);
  AddExactSumOfSquares(reference, x);
  auto elements = x.ToHost<float>();
  std::mt19937 random(6);
  for (int round = 0; round < 4; ++round) {
    omp_set_num_threads(1 + round % 3);
    std::shuffle(elements.begin(), elements.end(), random);
    const Tensor shuffled = Tensor::FromHost<float>(elements, {n}, *device_);
    const Tensor bins = Zeros(ExactScalar::kBins);
    for (int64_t first = 0; first < n;) {
      const int64_t count =
          std::min<int64_t>(n - first, 1 + static_cast<int64_t>(random() % 30000));
      AddExactSumOfSquares(bins, shuffled.Narrow(0, first, count));
      first += count;
    }
    EXPECT_EQ(Bits(bins), Bits(reference));
  }
}

TEST_F(ReduceTest, InfinityAndNanStay) {
  for (float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (int64_t place : {0, 4999}) {
      const Tensor x = Tensor::Zeros({5000}, DType::kFloat32, *device_);
      x.data<float>()[place] = bad;
      const Tensor total = Zeros(1);
      AddSum(total, x);
      EXPECT_FALSE(std::isfinite(total.ToHost<double>()[0]));
      const Tensor bins = Zeros(ExactScalar::kBins);
      AddExactSumOfSquares(bins, x);
      ExactScalar sum;
      const auto host = bins.ToHost<double>();
      std::copy(host.begin(), host.end(), sum.bins().begin());
      EXPECT_FALSE(std::isfinite(sum.Value())) << bad;
    }
  }
}

// The gradient of a bias: [rows, n] summed into [n].
TEST_F(ReduceTest, RowsIntoAVector) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (int64_t n : {1, 63, 1500}) {
      const int64_t rows = 131;
      const Tensor x = RandomTensor(*device_, {rows, n}, 72, 1.0, 0.5, dtype);
      const std::vector<double> elements = testing::ToDoubles(x);
      std::vector<double> expected(static_cast<size_t>(n));
      for (size_t i = 0; i < elements.size(); ++i) expected[i % expected.size()] += elements[i];
      MainGrad grad(Tensor::Zeros({n}, DType::kFloat32, *device_));
      AddRowsToVector(grad, x);
      testing::ExpectClose(grad.sum(), expected, 1e-6, "fp32 sum");

      MainGrad exact(Zeros(n), Zeros(n));
      exact.set_factor(0.25);
      AddRowsToVector(exact, x);
      const Tensor sum = Tensor::Empty({n}, DType::kFloat32, *device_);
      ExactToFloat(sum, exact.hi(), exact.lo());
      for (double& e : expected) e *= 0.25;
      testing::ExpectClose(sum, expected, 1e-7, "exact sum");
    }
  }
}

TEST_F(ReduceTest, ExactRowSumsIgnoreSplitsAndThreads) {
  const int64_t rows = 90;
  const int64_t n = 333;
  const Tensor x = WideRange(rows * n).View({rows, n});
  MainGrad whole(Zeros(n), Zeros(n));
  omp_set_num_threads(2);
  AddRowsToVector(whole, x);
  MainGrad split(Zeros(n), Zeros(n));
  omp_set_num_threads(1);
  for (int64_t first : {60, 0, 30}) AddRowsToVector(split, x.Narrow(0, first, 30));
  MainGrad by_tensor(Zeros(n), Zeros(n));
  for (int64_t row = 0; row < rows; ++row) by_tensor.Add(x.Select(row));
  EXPECT_EQ(Bits(whole.hi()), Bits(split.hi()));
  EXPECT_EQ(Bits(whole.lo()), Bits(split.lo()));
  EXPECT_EQ(Bits(whole.hi()), Bits(by_tensor.hi()));
  EXPECT_EQ(Bits(whole.lo()), Bits(by_tensor.lo()));
}

}  // namespace
}  // namespace cairn
