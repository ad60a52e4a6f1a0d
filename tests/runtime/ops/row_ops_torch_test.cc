// Parity with PyTorch on the values that row_ops_torch.py wrote.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "jacobian_testing.h"
#include "runtime/ops/adamw.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/gelu.h"
#include "runtime/ops/norm.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

class RowOpsTorchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(CAIRN_SOURCE_DIR "/tests/runtime/ops/row_ops_torch.json");
    ASSERT_TRUE(file.good());
    dump_ = nlohmann::json::parse(file);
  }

  Tensor Load(const nlohmann::json& values, const Shape& shape) {
    return Tensor::FromHost<float>(values.get<std::vector<float>>(), shape, *device_);
  }
  static void ExpectEqualTo(const nlohmann::json& expected, const Tensor& actual, const char* what,
                            double tolerance = 1e-6) {
    testing::ExpectClose(actual, expected.get<std::vector<double>>(), tolerance, what);
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
  nlohmann::json dump_;
};

TEST_F(RowOpsTorchTest, Gelu) {
  const auto& d = dump_["gelu"];
  const Shape shape{static_cast<int64_t>(d["x"].size())};
  Tape tape;
  const Value x = tape.Input(Load(d["x"], shape));
  const Value y = Gelu(tape, x);
  ExpectEqualTo(d["y"], y.data, "y");
  tape.BackwardInput(y, Load(d["dy"], shape));
  ExpectEqualTo(d["dx"], tape.TakeGradient(x), "dx");
}

TEST_F(RowOpsTorchTest, LayerNorm) {
  const auto& d = dump_["layer_norm"];
  const int64_t h = d["h"];
  const Shape shape{d["rows"].get<int64_t>(), h};
  MainGrad dgamma(Tensor::Zeros({h}, DType::kFloat32, *device_));
  MainGrad dbeta(Tensor::Zeros({h}, DType::kFloat32, *device_));
  Weight gamma{Load(d["gamma"], {h}), &dgamma};
  Weight beta{Load(d["beta"], {h}), &dbeta};
  Tape tape;
  const Value x = tape.Input(Load(d["x"], shape));
  const Value y = LayerNorm(tape, x, gamma, beta, d["epsilon"]);
  ExpectEqualTo(d["y"], y.data, "y");
  tape.BackwardInput(y, Load(d["dy"], shape));
  tape.BackwardWeight();
  ExpectEqualTo(d["dx"], tape.TakeGradient(x), "dx");
  ExpectEqualTo(d["dgamma"], dgamma.sum(), "dgamma");
  ExpectEqualTo(d["dbeta"], dbeta.sum(), "dbeta");
}

TEST_F(RowOpsTorchTest, CrossEntropy) {
  const auto& d = dump_["cross_entropy"];
  const int64_t tokens = d["tokens"];
  const int64_t vocabulary = d["vocabulary"];
  const Tensor logits = Load(d["logits"], {tokens, vocabulary});
  const Tensor targets =
      Tensor::FromHost<int32_t>(d["targets"].get<std::vector<int32_t>>(), {tokens}, *device_);
  const Tensor parts = Tensor::Empty({1, tokens, 3}, DType::kFloat32, *device_);
  const Tensor loss = Tensor::Empty({tokens}, DType::kFloat32, *device_);
  const Tensor logsumexp = loss.EmptyLike();
  CrossEntropyStats(parts, logits, targets, 0, vocabulary);
  CrossEntropyMerge(loss, logsumexp, parts, targets);
  ExpectEqualTo(d["loss"], loss, "loss");
  const Tensor ones = logsumexp.EmptyLike();
  Fill(ones, 1.0);
  CrossEntropyGradient(logits, targets, logsumexp, 0, vocabulary, ones);
  ExpectEqualTo(d["dlogits"], logits, "dlogits", 3e-6);
}

TEST_F(RowOpsTorchTest, AdamWTenSteps) {
  const auto& d = dump_["adamw"];
  const Shape shape{d["n"].get<int64_t>()};
  const Tensor main = Load(d["initial"], shape);
  const Tensor exp_avg = Tensor::Zeros(shape, DType::kFloat32, *device_);
  const Tensor exp_avg_sq = Tensor::Zeros(shape, DType::kFloat32, *device_);
  const DecayRuns runs({{main.numel(), true}}, *device_);
  const double beta1 = d["betas"][0];
  const double beta2 = d["betas"][1];
  ASSERT_EQ(d["gradients"].size(), 10U);
  for (size_t t = 0; t < d["gradients"].size(); ++t) {
    AdamWStep step;
    step.lr = d["lr"];
    step.beta1 = static_cast<float>(beta1);
    step.beta2 = static_cast<float>(beta2);
    step.epsilon = d["eps"];
    step.weight_decay = d["weight_decay"];
    step.bias_correction1 = static_cast<float>(1.0 - std::pow(beta1, t + 1.0));
    step.bias_correction2 = static_cast<float>(1.0 - std::pow(beta2, t + 1.0));
    AdamW(main, exp_avg, exp_avg_sq, Load(d["gradients"][t], shape), runs, step);
    ExpectEqualTo(d["parameters"][t], main, "parameters");
  }
  ExpectEqualTo(d["exp_avg"], exp_avg, "exp_avg");
  ExpectEqualTo(d["exp_avg_sq"], exp_avg_sq, "exp_avg_sq");
}

}  // namespace
}  // namespace cairn
