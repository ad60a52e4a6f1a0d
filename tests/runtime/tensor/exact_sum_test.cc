#include "runtime/tensor/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

namespace cairn {
namespace {

// `n` numbers of magnitudes 10^low to 10^high, both signs.
std::vector<float> WideRange(size_t n, double low, double high, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> exponent(low, high);
  std::vector<float> numbers(n);
  for (float& number : numbers) {
    const double magnitude = std::pow(10.0, exponent(random));
    number = static_cast<float>(random() % 2 == 0 ? magnitude : -magnitude);
  }
  return numbers;
}

TEST(RoundToQuantumTest, NearestMultiple) {
  EXPECT_EQ(RoundToQuantum(5.3, 2.0), 6.0);
  EXPECT_EQ(RoundToQuantum(-5.3, 2.0), -6.0);
  EXPECT_EQ(RoundToQuantum(0.9, 2.0), 0.0);
  EXPECT_EQ(RoundToQuantum(5.0, 2.0), 4.0);  // ties to even multiples
  EXPECT_EQ(RoundToQuantum(0x1p-30 * 7, kExactHiQuantum), 0x1p-30 * 7);
}

TEST(ExactScalarTest, OrderAndSplitsChangeNoBit) {
  std::vector<float> numbers = WideRange(20000, -20, 5, 1);
  ExactScalar reference;
  for (float x : numbers) reference.Add(x);
  std::mt19937 random(2);
  for (int round = 0; round < 10; ++round) {
    std::shuffle(numbers.begin(), numbers.end(), random);
    // As on several ranks: sums of parts, whose bins are added in another order.
    std::vector<ExactScalar> parts(1 + random() % 7);
    for (float x : numbers) parts[random() % parts.size()].Add(x);
    ExactScalar total;
    for (ExactScalar& part : parts) {
      for (int i = 0; i < ExactScalar::kBins; ++i) total.bins()[i] += part.bins()[i];
    }
    EXPECT_EQ(total.bins(), reference.bins());
    EXPECT_EQ(total.Value(), reference.Value());
  }
}

TEST(ExactScalarTest, KeepsWhatPlainSumsLose) {
  ExactScalar sum;
  for (double x : {1e20, 1.0, 1e-20, -1e20, -1.0}) sum.Add(x);
  EXPECT_DOUBLE_EQ(sum.Value(), 1e-20);
}

TEST(ExactScalarTest, CloseToALongDoubleSum) {
  const std::vector<float> numbers = WideRange(50000, -20, 5, 3);
  ExactScalar sum;
  long double truth = 0;
  for (float x : numbers) {
    sum.Add(static_cast<double>(x) * x);
    truth += static_cast<long double>(x) * x;
  }
  EXPECT_NEAR(static_cast<double>(sum.Value() / truth), 1.0, 1e-14);
}

TEST(ExactScalarTest, NonFiniteStays) {
  for (double bad :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    ExactScalar sum;
    sum.Add(1.0);
    sum.Add(bad);
    EXPECT_FALSE(std::isfinite(sum.Value()));
  }
}

class ExactAddToTest : public ::testing::Test {
 protected:
  struct Sum {
    Tensor hi;
    Tensor lo;
  };
  Sum NewSum(int64_t n) {
    return {Tensor::Zeros({n}, DType::kFloat64, *device_),
            Tensor::Zeros({n}, DType::kFloat64, *device_)};
  }
  Tensor FromHost(const std::vector<float>& elements) {
    return Tensor::FromHost<float>(elements, {static_cast<int64_t>(elements.size())}, *device_);
  }
  std::vector<float> Floats(const Sum& sum) {
    const Tensor floats = Tensor::Empty(sum.hi.shape(), DType::kFloat32, *device_);
    ExactToFloat(floats, sum.hi, sum.lo);
    return floats.ToHost<float>();
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_F(ExactAddToTest, OrderOfTermsChangesNoBit) {
  const int64_t n = 501;
  std::vector<Tensor> terms;
  for (uint32_t t = 0; t < 60; ++t) terms.push_back(FromHost(WideRange(n, -20, 5, 10 + t)));
  const Sum reference = NewSum(n);
  for (const Tensor& term : terms) ExactAddTo(reference.hi, reference.lo, term, 1.0);
  std::mt19937 random(4);
  for (int round = 0; round < 5; ++round) {
    std::shuffle(terms.begin(), terms.end(), random);
    const size_t split = random() % terms.size();
    const Sum a = NewSum(n);
    const Sum b = NewSum(n);
    for (size_t t = 0; t < terms.size(); ++t) {
      const Sum& part = t < split ? a : b;
      ExactAddTo(part.hi, part.lo, terms[t], 1.0);
    }
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(a.hi.data<double>()[i] + b.hi.data<double>()[i], reference.hi.data<double>()[i]);
      ASSERT_EQ(a.lo.data<double>()[i] + b.lo.data<double>()[i], reference.lo.data<double>()[i]);
    }
  }
}

TEST_F(ExactAddToTest, SumsAndAppliesTheFactor) {
  const Sum sum = NewSum(3);
  const Tensor term = FromHost({1.5f, -3e4f, 1e-6f});
  for (int i = 0; i < 5; ++i) ExactAddTo(sum.hi, sum.lo, term, 0.25);
  const std::vector<float> floats = Floats(sum);
  EXPECT_FLOAT_EQ(floats[0], 1.875f);
  EXPECT_FLOAT_EQ(floats[1], -37500.0f);
  EXPECT_FLOAT_EQ(floats[2], 1.25e-6f);
}

TEST_F(ExactAddToTest, NonFiniteTermsShow) {
  for (float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    const Sum sum = NewSum(2);
    ExactAddTo(sum.hi, sum.lo, FromHost({1.0f, bad}), 1.0);
    EXPECT_EQ(Floats(sum)[0], 1.0f);
    EXPECT_FALSE(std::isfinite(Floats(sum)[1]));
  }
}

}  // namespace
}  // namespace cairn
