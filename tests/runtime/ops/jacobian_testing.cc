#include "jacobian_testing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/exact_sum.h"
#include "runtime/tensor/random.h"

namespace cairn::testing {
namespace {

std::vector<Value> InputsOf(Tape& tape, std::span<const Tensor> inputs) {
  std::vector<Value> values;
  values.reserve(inputs.size());
  for (const Tensor& input : inputs) values.push_back(tape.Input(input));
  return values;
}

double Projection(const TestedOp& op, std::span<const Tensor> inputs,
                  std::span<const double> weights) {
  Tape tape({.recording = false});
  const std::vector<double> output = ToDoubles(op(tape, InputsOf(tape, inputs)).data);
  double sum = 0;
  for (size_t i = 0; i < output.size(); ++i) sum += output[i] * weights[i];
  return sum;
}

// Perturbs elements of `parameter` and compares with `gradient`.
void CompareWithDifferences(const std::function<double()>& loss, const Tensor& parameter,
                            const Tensor& gradient, const JacobianOptions& options,
                            const std::string& what) {
  ASSERT_EQ(gradient.numel(), parameter.numel()) << what;
  const std::vector<double> analytic = ToDoubles(gradient);
  const int64_t n = parameter.numel();
  const int64_t probes = std::min(n, options.max_probes);
  double square = 0;
  for (double g : analytic) square += g * g;
  const double rms = std::sqrt(square / static_cast<double>(n));
  auto* elements = parameter.data<float>();
  for (int64_t probe = 0; probe < probes; ++probe) {
    const int64_t i = probe * n / probes;
    const float original = elements[i];
    const auto at = [&](double steps) {
      elements[i] = original + static_cast<float>(steps * options.step);
      return loss();
    };
    const double numeric = (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * options.step);
    elements[i] = original;
    EXPECT_NEAR(analytic[i], numeric, options.tolerance * (std::abs(numeric) + rms) + 1e-6)
        << what << ", element " << i << " of " << parameter.shape().ToString();
  }
}

}  // namespace

Tensor RandomTensor(Device& device, const Shape& shape, uint32_t site, double scale, double shift,
                    DType dtype) {
  std::vector<float> elements(static_cast<size_t>(shape.numel()));
  const RandomKey key{.seed = 1234, .step = 0, .site = site};
  for (size_t i = 0; i < elements.size(); ++i) {
    elements[i] = static_cast<float>(RandomNormal(key, i) * scale + shift);
  }
  return Converted(Tensor::FromHost<float>(elements, shape, device), dtype);
}

Tensor Converted(const Tensor& tensor, DType dtype) {
  Tensor converted = Tensor::Empty(tensor.shape(), dtype, tensor.device());
  CopyTo(converted, tensor);
  return converted;
}

std::vector<double> ToDoubles(const Tensor& tensor) {
  std::vector<double> doubles;
  if (tensor.dtype() == DType::kFloat64) return tensor.ToHost<double>();
  for (float element : Converted(tensor, DType::kFloat32).ToHost<float>()) {
    doubles.push_back(element);
  }
  return doubles;
}

std::vector<uint8_t> Bits(const Tensor& tensor) {
  const Tensor source = ContiguousCopy(tensor);
  std::vector<uint8_t> bytes(source.bytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), source.raw(), bytes.size());
  return bytes;
}

void ExpectClose(const Tensor& actual, std::span<const double> expected, double tolerance,
                 const char* what) {
  const std::vector<double> values = ToDoubles(actual);
  ASSERT_EQ(values.size(), expected.size()) << what;
  double square = 0;
  for (double e : expected) square += e * e;
  const double rms = std::sqrt(square / static_cast<double>(std::max<size_t>(1, expected.size())));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(values[i], expected[i], tolerance * (std::abs(expected[i]) + rms))
        << what << ", element " << i;
  }
}

void CheckJacobian(const TestedOp& op, std::vector<Tensor> inputs, std::vector<Weight*> weights,
                   const JacobianOptions& options) {
  for (const bool exact : {false, true}) {
    SCOPED_TRACE(exact ? "exact gradient sums" : "fp32 gradient sums");
    std::vector<MainGrad> grads;
    std::vector<int> completions(weights.size(), 0);
    grads.reserve(weights.size());
    for (size_t w = 0; w < weights.size(); ++w) {
      const Shape& shape = weights[w]->value.shape();
      Device& device = weights[w]->value.device();
      const auto zeros = [&](DType dtype) { return Tensor::Zeros(shape, dtype, device); };
      grads.push_back(exact ? MainGrad(zeros(DType::kFloat64), zeros(DType::kFloat64))
                            : MainGrad(zeros(DType::kFloat32)));
      grads[w].set_on_complete([&completions, w] { ++completions[w]; });
      weights[w]->grad = &grads[w];
    }

    Tape tape;
    const std::vector<Value> values = InputsOf(tape, inputs);
    const Value output = op(tape, values);
    const Tensor projection = RandomTensor(output.data.device(), output.data.shape(), 9999);
    const std::vector<double> projection_host = ToDoubles(projection);
    tape.BackwardInput(output, projection);
    std::vector<Tensor> gradients;
    gradients.reserve(values.size());
    for (const Value& value : values) gradients.push_back(tape.TakeGradient(value));
    tape.BackwardWeight();

    const auto loss = [&] { return Projection(op, inputs, projection_host); };
    for (size_t i = 0; i < inputs.size(); ++i) {
      CompareWithDifferences(loss, inputs[i], gradients[i], options, fmt::format("input {}", i));
    }
    for (size_t w = 0; w < weights.size(); ++w) {
      EXPECT_EQ(completions[w], 1) << "weight " << w;
      Tensor gradient = grads[w].sum();
      if (exact) {
        gradient =
            Tensor::Empty(weights[w]->value.shape(), DType::kFloat32, weights[w]->value.device());
        ExactToFloat(gradient, grads[w].hi(), grads[w].lo());
      }
      CompareWithDifferences(loss, weights[w]->value, gradient, options,
                             fmt::format("weight {}", w));
      weights[w]->grad = nullptr;
    }
  }
}

}  // namespace cairn::testing
