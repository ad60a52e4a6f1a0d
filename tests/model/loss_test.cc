#include "model/layers/loss.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "parallel/local_communicator.h"
#include "runtime/tensor/elementwise.h"
#include "tests/runtime/ops/jacobian_testing.h"

namespace cairn {
namespace {

constexpr int64_t kTokens = 10;
constexpr int64_t kHidden = 6;
constexpr int64_t kVocabulary = 13;  // logical
const std::vector<int32_t> kTargets = {0, 12, 7, -1, 5, 4, 9, 8, -1, 3};

struct Case {
  int tp = 1;
  DType dtype = DType::kFloat32;
  int64_t tokens_at_once = kTokens;
  int64_t rows_per_sample = 0;
  bool exact = false;
  double tolerance = 0;
};

// What the whole group computes; x's gradient is the sum over its ranks.
struct Result {
  std::vector<double> loss;
  std::vector<double> dx;
  std::vector<double> dw;  // logical rows
};

class LossTest : public ::testing::Test {
 protected:
  LossTest()
      : x_(testing::RandomTensor(*device_, {kTokens, kHidden}, 61)),
        w_(testing::RandomTensor(*device_, {kVocabulary, kHidden}, 62)),
        weights_(testing::RandomTensor(*device_, {kTokens}, 63)) {}

  // The textbook's formulas, in fp64, of what the dtype leaves of x and W.
  Result Reference(DType dtype) const {
    const std::vector<double> x = testing::ToDoubles(testing::Converted(x_, dtype));
    const std::vector<double> w = testing::ToDoubles(testing::Converted(w_, dtype));
    const std::vector<double> scale = testing::ToDoubles(weights_);
    Result result{std::vector<double>(kTokens), std::vector<double>(x.size()),
                  std::vector<double>(w.size())};
    for (int64_t t = 0; t < kTokens; ++t) {
      if (kTargets[t] < 0) continue;
      std::vector<double> logits(kVocabulary);
      double sum = 0;
      for (int64_t v = 0; v < kVocabulary; ++v) {
        for (int64_t i = 0; i < kHidden; ++i) logits[v] += x[t * kHidden + i] * w[v * kHidden + i];
        sum += std::exp(logits[v]);
      }
      result.loss[t] = std::log(sum) - logits[kTargets[t]];
      for (int64_t v = 0; v < kVocabulary; ++v) {
        const double gradient =
            (std::exp(logits[v]) / sum - (v == kTargets[t] ? 1.0 : 0.0)) * scale[t];
        for (int64_t i = 0; i < kHidden; ++i) {
          result.dx[t * kHidden + i] += gradient * w[v * kHidden + i];
          result.dw[v * kHidden + i] += gradient * x[t * kHidden + i];
        }
      }
    }
    return result;
  }

  Result Run(const Case& test) const {
    Result result{{}, std::vector<double>(kTokens * kHidden), {}};
    result.dw.resize(kVocabulary * kHidden);
    std::mutex mutex;
    RunLocalRanks(test.tp, [&](Communicator& tp) {
      const std::unique_ptr<Device> device = NewCpuDevice();
      const int64_t columns = (kVocabulary + test.tp - 1) / test.tp;
      const int64_t first = columns * tp.rank();
      const int64_t rows = std::min(columns, kVocabulary - first);
      // Padding rows hold numbers that would ruin everything.
      Weight weight{Tensor::Empty({columns, kHidden}, test.dtype, *device)};
      Fill(weight.value, 30.0);
      CopyTo(weight.value.Narrow(0, 0, rows), w_.Narrow(0, first, rows));
      MainGrad grad(Tensor::Zeros({columns, kHidden}, DType::kFloat32, *device));
      MainGrad exact(Tensor::Zeros({columns, kHidden}, DType::kFloat64, *device),
                     Tensor::Zeros({columns, kHidden}, DType::kFloat64, *device));
      weight.grad = test.exact ? &exact : &grad;
      int completed = 0;
      weight.grad->set_on_complete([&] { ++completed; });

      Tape tape(Tape::Options{.recording = true, .rows_per_sample = test.rows_per_sample});
      Microbatch batch;
      batch.targets = Tensor::FromHost<int32_t>(kTargets, {kTokens}, *device);
      batch.loss_gradient = testing::Converted(weights_, DType::kFloat32);
      ForwardContext context{tape, batch};
      const Value x = tape.Input(testing::Converted(x_, test.dtype));
      const int64_t row_bytes = columns * static_cast<int64_t>(DTypeSize(test.dtype));
      const Value loss =
          VocabParallelLoss(context, x, weight, {first, rows}, tp, test.tokens_at_once * row_bytes);
      EXPECT_EQ(completed, 0) << "before the backward pass";
      tape.Backward(loss, batch.loss_gradient);
      EXPECT_EQ(completed, 1);

      const std::vector<double> dx = testing::ToDoubles(tape.TakeGradient(x));
      const std::vector<double> dw = testing::ToDoubles(test.exact ? exact.hi() : grad.sum());
      const std::lock_guard<std::mutex> lock(mutex);
      for (size_t i = 0; i < dx.size(); ++i) result.dx[i] += dx[i];
      for (int64_t i = 0; i < columns * kHidden; ++i) {
        if (i < rows * kHidden) {
          result.dw[first * kHidden + i] = dw[i];
        } else {
          EXPECT_EQ(dw[i], 0.0) << "padding";
        }
      }
      if (tp.rank() == 0) result.loss = testing::ToDoubles(loss.data);
    });
    return result;
  }

  static void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                         double tolerance, const char* what) {
    ASSERT_EQ(actual.size(), expected.size()) << what;
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], tolerance) << what << ' ' << i;
    }
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
  Tensor x_;
  Tensor w_;
  Tensor weights_;  // of the tokens' losses in the objective
};

TEST_F(LossTest, AnyChunkAndSplitOfTheVocabularyIsTheWholeLoss) {
  std::vector<Case> cases;
  for (const int tp : {1, 2, 3}) {
    for (const int64_t at_once : {1, 3, 4, 10}) {
      cases.push_back({tp, DType::kFloat32, at_once, 0, false, 5e-6});
      cases.push_back({tp, DType::kFloat32, at_once, 2, true, 5e-6});
    }
    // Logits of about 3 and their gradients, rounded to 8 (11) bits.
    cases.push_back({tp, DType::kBFloat16, 3, 0, false, 0.06});
    cases.push_back({tp, DType::kFloat16, 3, 0, false, 0.008});
  }
  for (const Case& test : cases) {
    SCOPED_TRACE(fmt::format("tp {} {} {} tokens at once{}", test.tp, DTypeName(test.dtype),
                             test.tokens_at_once, test.exact ? ", exact" : ""));
    const Result expected = Reference(test.dtype);
    const Result actual = Run(test);
    ExpectNear(actual.loss, expected.loss, test.tolerance, "loss");
    ExpectNear(actual.dx, expected.dx, test.tolerance, "dx");
    ExpectNear(actual.dw, expected.dw, test.tolerance, "dW");
  }
}

// Sample by sample, the chunk of a token changes no bit.
TEST_F(LossTest, SamplesHaveTheSameBitsInAnyChunk) {
  const Result whole = Run({1, DType::kFloat32, kTokens, 2, true});
  for (const int64_t at_once : {1, 4, 7}) {
    const Result parts = Run({1, DType::kFloat32, at_once, 2, true});
    EXPECT_EQ(parts.loss, whole.loss) << at_once;
    EXPECT_EQ(parts.dx, whole.dx) << at_once;
    EXPECT_EQ(parts.dw, whole.dw) << at_once;
  }
}

// A training step and an evaluation hold one chunk of logits, however many tokens there are.
TEST_F(LossTest, LogitsNeverExistWhole) {
  constexpr int64_t kManyTokens = 512;
  constexpr int64_t kColumns = 4096;
  constexpr int64_t kChunkBytes = 64 * kColumns * int64_t{sizeof(float)};
  RunLocalRanks(1, [&](Communicator& tp) {
    for (const bool recording : {true, false}) {
      const std::unique_ptr<Device> device = NewCpuDevice();
      MainGrad grad(Tensor::Zeros({kColumns, kHidden}, DType::kFloat32, *device));
      Weight weight{Tensor::Zeros({kColumns, kHidden}, DType::kFloat32, *device), &grad};
      Tape tape(Tape::Options{.recording = recording});
      Microbatch batch;
      batch.targets = Tensor::Zeros({kManyTokens}, DType::kInt32, *device);
      batch.loss_gradient = Tensor::Zeros({kManyTokens}, DType::kFloat32, *device);
      ForwardContext context{tape, batch};
      const Value x = tape.Input(Tensor::Zeros({kManyTokens, kHidden}, DType::kFloat32, *device));
      const auto before = device->allocator().stats().peak_total;
      const Value loss = VocabParallelLoss(context, x, weight, {0, kColumns}, tp, kChunkBytes);
      if (recording) tape.Backward(loss, batch.loss_gradient);
      const int64_t more = device->allocator().stats().peak_total - before;
      EXPECT_GE(more, kChunkBytes);
      EXPECT_LT(more, kChunkBytes * 3 / 2) << (recording ? "training" : "evaluation");
    }
  });
}

}  // namespace
}  // namespace cairn
