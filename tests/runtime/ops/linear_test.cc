#include "runtime/ops/linear.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <vector>

#include "jacobian_testing.h"
#include "product_testing.h"
#include "runtime/ops/dropout.h"
#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;
using testing::ScopedThreads;

MainGrad ExactGrad(const Tensor& value) {
  return MainGrad(Tensor::Zeros(value.shape(), DType::kFloat64, value.device()),
                  Tensor::Zeros(value.shape(), DType::kFloat64, value.device()));
}

class LinearTest : public ::testing::Test {
 protected:
  int64_t BytesInUse() const { return device_->allocator().stats().current_total; }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_F(LinearTest, JacobianWithAndWithoutBias) {
  Weight weight{RandomTensor(*device_, {11, 7}, 1)};
  Weight bias{RandomTensor(*device_, {11}, 2)};
  const Tensor x = RandomTensor(*device_, {6, 7}, 3);
  testing::CheckJacobian(
      [&](Tape& tape, std::span<const Value> in) { return Linear(tape, in[0], weight, &bias); },
      {x}, {&weight, &bias});
  testing::CheckJacobian(
      [&](Tape& tape, std::span<const Value> in) { return Linear(tape, in[0], weight, nullptr); },
      {x}, {&weight});
}

TEST_F(LinearTest, EqualsPyTorch) {
  const testing::ReferenceFile file("linear_reference.json");
  const int64_t tokens = file.Number("tokens");
  const int64_t in = file.Number("inputs");
  const int64_t out = file.Number("outputs");
  // The inputs are exact in every dtype; tolerances are an ulp of the result.
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::kFloat32, 1e-6}, {DType::kBFloat16, 0x1p-8}, {DType::kFloat16, 0x1p-11}}) {
    SCOPED_TRACE(DTypeName(dtype));
    const auto load = [&, dtype = dtype](const char* field, const Shape& shape) {
      return testing::Converted(file.Load(field, shape, *device_), dtype);
    };
    Weight weight{load("weight", {out, in})};
    Weight bias{load("bias", {out})};
    MainGrad weight_grad(Tensor::Zeros({out, in}, DType::kFloat32, *device_));
    MainGrad bias_grad(Tensor::Zeros({out}, DType::kFloat32, *device_));
    weight.grad = &weight_grad;
    bias.grad = &bias_grad;
    Tape tape;
    const Value x = tape.Input(load("x", {tokens, in}));
    const Value y = Linear(tape, x, weight, &bias);
    testing::ExpectClose(y.data, file.Doubles("y"), tolerance, "y");
    tape.BackwardInput(y, load("dy", {tokens, out}));
    testing::ExpectClose(tape.TakeGradient(x), file.Doubles("dx"), tolerance, "dx");
    tape.BackwardWeight();
    testing::ExpectClose(weight_grad.sum(), file.Doubles("dweight"), 1e-6, "dweight");
    testing::ExpectClose(bias_grad.sum(), file.Doubles("dbias"), 1e-6, "dbias");
  }
}

TEST_F(LinearTest, GradientsAddUpOverMicrobatches) {
  Weight weight{RandomTensor(*device_, {5, 4}, 1)};
  MainGrad grad(Tensor::Zeros({5, 4}, DType::kFloat32, *device_));
  weight.grad = &grad;
  int completed = 0;
  grad.set_on_complete([&] { ++completed; });
  const Tensor x = RandomTensor(*device_, {3, 4}, 3);
  std::vector<double> once;
  for (int i = 0; i < 2; ++i) {
    Tape tape;
    const Value y = Linear(tape, tape.Input(x), weight, nullptr);
    tape.BackwardInput(y, RandomTensor(*device_, {3, 5}, 4));
    EXPECT_EQ(completed, i) << "weight gradients belong to the second phase";
    tape.BackwardWeight();
    if (i == 0) once = testing::ToDoubles(grad.sum());
  }
  EXPECT_EQ(completed, 2);
  for (double& value : once) value *= 2;
  testing::ExpectClose(grad.sum(), once, 1e-6, "sum of two");
}

TEST_F(LinearTest, FrozenAndConstantPartsAreSkipped) {
  Weight weight{RandomTensor(*device_, {5, 4}, 1)};
  const Tensor x = RandomTensor(*device_, {3, 4}, 3);
  {
    Tape tape;
    EXPECT_FALSE(Linear(tape, Value{x}, weight, nullptr).needs_gradient());
    EXPECT_EQ(tape.num_nodes(), 0);
    // A frozen weight: the gradient still flows to x, and x is not kept for it.
    Value input = tape.Input(x);
    const Value y = Linear(tape, input, weight, nullptr);
    tape.BackwardInput(y, RandomTensor(*device_, {3, 5}, 4));
    EXPECT_TRUE(tape.TakeGradient(input).defined());
    tape.BackwardWeight();
  }
  MainGrad grad(Tensor::Zeros({5, 4}, DType::kFloat32, *device_));
  weight.grad = &grad;
  {
    Tape tape({.recording = false});
    EXPECT_FALSE(Linear(tape, tape.Input(x), weight, nullptr).needs_gradient());
  }
  Tape tape;
  const Value y = Linear(tape, Value{x}, weight, nullptr);  // only the weight needs a gradient
  tape.BackwardInput(y, RandomTensor(*device_, {3, 5}, 4));
  tape.BackwardWeight();
  EXPECT_NE(testing::ToDoubles(grad.sum()), std::vector<double>(20, 0.0));
}

TEST_F(LinearTest, AnInputThatIsCheapIsComputedAgain) {
  Weight weight{RandomTensor(*device_, {5, 4}, 1)};
  MainGrad kept(Tensor::Zeros({5, 4}, DType::kFloat32, *device_));
  MainGrad again(Tensor::Zeros({5, 4}, DType::kFloat32, *device_));
  const Tensor dy = RandomTensor(*device_, {3, 5}, 4);
  int computed = 0;
  for (MainGrad* grad : {&kept, &again}) {
    weight.grad = grad;
    Value x{RandomTensor(*device_, {3, 4}, 2)};
    if (grad == &again) {
      x.again = [&] {
        ++computed;
        return RandomTensor(*device_, {3, 4}, 2);
      };
    }
    Tape tape;
    tape.Backward(Linear(tape, x, weight, nullptr), dy);
  }
  EXPECT_EQ(computed, 1);
  EXPECT_EQ(testing::Bits(again.sum()), testing::Bits(kept.sum()));
}

struct Result {
  std::vector<uint8_t> y;
  std::vector<uint8_t> dx;
  std::vector<std::vector<uint8_t>> grads;
  bool operator==(const Result&) const = default;
};

// Three samples in microbatches of `samples`, with exact sums.
Result Train(Device& device, DType dtype, int64_t samples, int threads) {
  constexpr int64_t kSeq = 29;
  constexpr int64_t kIn = 70;
  constexpr int64_t kOut = 230;
  const ScopedThreads scoped(threads);
  Weight weight{RandomTensor(device, {kOut, kIn}, 1, 0.1, 0.0, dtype)};
  Weight bias{RandomTensor(device, {kOut}, 2, 0.1, 0.0, dtype)};
  MainGrad weight_grad = ExactGrad(weight.value);
  MainGrad bias_grad = ExactGrad(bias.value);
  weight.grad = &weight_grad;
  bias.grad = &bias_grad;
  const Tensor x = RandomTensor(device, {3 * kSeq, kIn}, 3, 1.0, 0.0, dtype);
  const Tensor dy = RandomTensor(device, {3 * kSeq, kOut}, 4, 1e-3, 0.0, dtype);
  Result result;
  for (int64_t sample = 0; sample < 3; sample += samples) {
    Tape tape({.rows_per_sample = kSeq});
    const Value input = tape.Input(x.Narrow(0, sample * kSeq, samples * kSeq));
    const Value y = Linear(tape, input, weight, &bias);
    tape.BackwardInput(y, dy.Narrow(0, sample * kSeq, samples * kSeq));
    for (auto [all, part] :
         {std::pair{&result.y, Bits(y.data)}, {&result.dx, Bits(tape.TakeGradient(input))}}) {
      all->insert(all->end(), part.begin(), part.end());
    }
    tape.BackwardWeight();
  }
  for (const MainGrad* grad : {&weight_grad, &bias_grad}) {
    result.grads.push_back(Bits(grad->hi()));
    result.grads.push_back(Bits(grad->lo()));
  }
  return result;
}

TEST_F(LinearTest, DeterministicModeIgnoresMicrobatchesAndThreads) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const Result one = Train(*device_, dtype, 1, 1);
    EXPECT_EQ(one, Train(*device_, dtype, 3, 1)) << DTypeName(dtype) << ", microbatch";
    EXPECT_EQ(one, Train(*device_, dtype, 1, 2)) << DTypeName(dtype) << ", threads";
    EXPECT_EQ(one, Train(*device_, dtype, 3, 3)) << DTypeName(dtype) << ", both";
  }
}

TEST_F(LinearTest, JacobianThroughGelu) {
  Weight up{RandomTensor(*device_, {9, 5}, 1)};
  Weight bias{RandomTensor(*device_, {9}, 2)};
  Weight down{RandomTensor(*device_, {4, 9}, 3)};
  testing::CheckJacobian(
      [&](Tape& tape, std::span<const Value> in) {
        return Linear(tape, LinearGelu(tape, in[0], up, &bias), down, nullptr);
      },
      {RandomTensor(*device_, {6, 5}, 4)}, {&up, &bias, &down});
}

// On the CPU, products that take GELU along are the ops themselves, and give the same bits again.
TEST_F(LinearTest, ThroughGeluIsTheSameAsOpByOpKeptOrNot) {
  enum Way { kApart, kTogether, kNotKept };
  constexpr int64_t kTokens = 12;
  constexpr int64_t kIn = 70;
  constexpr int64_t kOut = 130;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const int64_t rows_per_sample : {0, 4}) {
      SCOPED_TRACE(fmt::format("{}, {} rows a sample", DTypeName(dtype), rows_per_sample));
      std::vector<std::vector<uint8_t>> results[3];
      int64_t kept_bytes[3];
      for (const Way way : {kApart, kTogether, kNotKept}) {
        Weight up{RandomTensor(*device_, {kOut, kIn}, 1, 0.2, 0.0, dtype)};
        Weight bias{RandomTensor(*device_, {kOut}, 2, 0.2, 0.0, dtype)};
        Weight down{RandomTensor(*device_, {kIn, kOut}, 3, 0.2, 0.0, dtype)};
        std::vector<MainGrad> grads;
        for (const Weight* weight : {&up, &bias, &down}) {
          grads.push_back(rows_per_sample > 0 ? ExactGrad(weight->value)
                                              : MainGrad(Tensor::Zeros(weight->value.shape(),
                                                                       DType::kFloat32, *device_)));
        }
        up.grad = &grads[0];
        bias.grad = &grads[1];
        down.grad = &grads[2];
        Tape tape({.rows_per_sample = rows_per_sample, .keep_gelu_inputs = way != kNotKept});
        const Value x = tape.Input(RandomTensor(*device_, {kTokens, kIn}, 4, 1.0, 0.0, dtype));
        const int64_t bytes_before = BytesInUse();
        Value y;
        if (way != kApart) {
          y = Linear(tape, LinearGelu(tape, x, up, &bias), down, nullptr);
        } else {
          y = Linear(tape, Gelu(tape, Linear(tape, x, up, &bias)), down, nullptr);
        }
        kept_bytes[way] = BytesInUse() - bytes_before;
        auto& result = results[way];
        result.push_back(Bits(y.data));
        tape.Backward(y, RandomTensor(*device_, {kTokens, kIn}, 5, 1e-2, 0.0, dtype));
        result.push_back(Bits(tape.TakeGradient(x)));
        for (const MainGrad& grad : grads) {
          result.push_back(Bits(grad.exact() ? grad.hi() : grad.sum()));
        }
      }
      EXPECT_EQ(results[kTogether], results[kApart]);
      EXPECT_EQ(results[kNotKept], results[kApart]);
      EXPECT_LE(kept_bytes[kTogether], kept_bytes[kApart]);
      const int64_t hidden_bytes = kTokens * kOut * static_cast<int64_t>(DTypeSize(dtype));
      EXPECT_LE(kept_bytes[kNotKept], kept_bytes[kTogether] - hidden_bytes);
    }
  }
}

// Who else reads the GELU gives it a gradient too, and the two add up.
TEST_F(LinearTest, BothReadersOfAGeluCount) {
  Weight up{RandomTensor(*device_, {9, 5}, 1)};
  Weight down{RandomTensor(*device_, {4, 9}, 3)};
  testing::CheckJacobian(
      [&](Tape& tape, std::span<const Value> in) {
        const Activated hidden = LinearGelu(tape, in[0], up, nullptr);
        const Value first = Linear(tape, hidden, down, nullptr);
        const Value second = Linear(tape, hidden.after, down, nullptr);
        return BiasDropoutAdd(tape, first, nullptr, &second, {});
      },
      {RandomTensor(*device_, {6, 5}, 4)}, {&up, &down});
}

TEST_F(LinearTest, MetaCountsTheOutput) {
  const auto meta = NewMetaDevice();
  Weight weight{Tensor::Empty({50304, 12288}, DType::kBFloat16, *meta)};
  const Value x{Tensor::Empty({2048, 12288}, DType::kBFloat16, *meta)};
  const int64_t before = meta->allocator().stats().current_total;
  Tape tape;
  const Value y = Linear(tape, x, weight, nullptr);
  EXPECT_EQ(y.data.shape(), Shape({2048, 50304}));
  EXPECT_EQ(meta->allocator().stats().current_total - before, 2048 * 50304 * 2);
}

}  // namespace
}  // namespace cairn
