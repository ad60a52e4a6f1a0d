// What all row-wise ops promise together, on a small stack of them.
#include <gtest/gtest.h>
#include <omp.h>

#include "jacobian_testing.h"
#include "runtime/base/error.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/dropout.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/gelu.h"
#include "runtime/ops/norm.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;

constexpr int64_t kSequence = 6;
constexpr int64_t kWidth = 35;
constexpr int64_t kVocabulary = 11;

// Weights with exact gradient sums and a forward pass through every op.
struct Stack {
  Stack(Device& device, DType dtype)
      : tokens{RandomTensor(device, {kVocabulary, kWidth}, 81, 1, 0, dtype)},
        positions{RandomTensor(device, {kSequence, kWidth}, 82, 1, 0, dtype)},
        gamma{RandomTensor(device, {kWidth}, 83, 0.1, 1, dtype)},
        beta{RandomTensor(device, {kWidth}, 84, 0.1, 0, dtype)},
        bias{RandomTensor(device, {kWidth}, 85, 0.1, 0, dtype)} {
    grads.reserve(weights().size());
    for (Weight* weight : weights()) {
      const Shape& shape = weight->value.shape();
      grads.emplace_back(Tensor::Zeros(shape, DType::kFloat64, device),
                         Tensor::Zeros(shape, DType::kFloat64, device));
      weight->grad = &grads.back();
    }
  }

  std::vector<Weight*> weights() { return {&tokens, &positions, &gamma, &beta, &bias}; }

  // `first_sample`: of the global batch that `ids` is a part of.
  Value Forward(Tape& tape, const Tensor& ids, int64_t first_sample) {
    const Value embedded = Embedding(tape, ids, tokens, 0);
    const Value x = AddPositionEmbedding(tape, embedded, positions, kSequence, 0);
    const Value y = Gelu(tape, LayerNorm(tape, x, gamma, beta, 1e-5));
    const DropoutSpec dropout{.p = 0.25,
                              .key = {.seed = 3, .step = 1, .site = 2},
                              .first_index = first_sample * kSequence * kWidth};
    return BiasDropoutAdd(tape, y, &bias, &x, dropout);
  }

  Weight tokens;
  Weight positions;
  Weight gamma;
  Weight beta;
  Weight bias;
  std::vector<MainGrad> grads;
};

class RowOpsTest : public ::testing::TestWithParam<DType> {
 protected:
  struct Bytes {
    std::vector<uint8_t> output;
    std::vector<std::vector<uint8_t>> gradients;
    bool operator==(const Bytes&) const = default;
  };

  // Forward and backward over six samples, `samples` at a time.
  Bytes Run(int64_t samples, int threads) {
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    Stack stack(*device_, GetParam());
    std::vector<int32_t> ids(6 * kSequence);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * i % kVocabulary);
    const Tensor all = Tensor::FromHost<int32_t>(ids, {6 * kSequence}, *device_);
    const Tensor upstream = RandomTensor(*device_, {6 * kSequence, kWidth}, 86, 1, 0, GetParam());
    Bytes bytes;
    for (int64_t sample = 0; sample < 6; sample += samples) {
      const int64_t row = sample * kSequence;
      const int64_t rows = samples * kSequence;
      Tape tape({.rows_per_sample = kSequence});
      const Value y = stack.Forward(tape, all.Narrow(0, row, rows), sample);
      const std::vector<uint8_t> output = Bits(y.data);
      bytes.output.insert(bytes.output.end(), output.begin(), output.end());
      tape.BackwardInput(y, upstream.Narrow(0, row, rows));
      tape.BackwardWeight();
    }
    for (const MainGrad& grad : stack.grads) {
      bytes.gradients.push_back(Bits(grad.hi()));
      bytes.gradients.push_back(Bits(grad.lo()));
    }
    omp_set_num_threads(before);
    return bytes;
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_P(RowOpsTest, NeitherMicrobatchNorThreadsChangeABit) {
  const Bytes reference = Run(6, 2);
  EXPECT_TRUE(Run(1, 1) == reference);
  EXPECT_TRUE(Run(3, 1) == reference);
  EXPECT_TRUE(Run(2, 2) == reference);
  bool any = false;
  for (const auto& gradient : reference.gradients) {
    for (uint8_t byte : gradient) any = any || byte != 0;
  }
  EXPECT_TRUE(any);
}

INSTANTIATE_TEST_SUITE_P(DTypes, RowOpsTest,
                         ::testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

// On meta the same code runs, memory is counted and nothing else happens: the peak is the cpu's.
TEST(RowOpsMetaTest, SamePeakMemoryAsOnTheCpu) {
  std::vector<int64_t> peaks;
  for (DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kMeta}) {
    const auto device = NewDevice(kind);
    const auto empty = [&](const Shape& shape, DType dtype = DType::kFloat32) {
      return Tensor::Zeros(shape, dtype, *device, MemoryCategory::kParameters);
    };
    Weight table{empty({kVocabulary, kWidth})};
    Weight gamma{empty({kWidth})};
    Weight beta{empty({kWidth})};
    Weight bias{empty({kWidth})};
    std::vector<MainGrad> grads;
    grads.reserve(4);
    for (Weight* weight : {&table, &gamma, &beta, &bias}) {
      grads.emplace_back(empty(weight->value.shape()));
      weight->grad = &grads.back();
    }
    const Tensor ids = empty({kSequence}, DType::kInt32);
    Tape tape;
    const Value x = Embedding(tape, ids, table, 0);
    const Value y = Gelu(tape, LayerNorm(tape, x, gamma, beta, 1e-5));
    const Value z = BiasDropoutAdd(tape, y, &bias, &x, {.p = 0.1});
    const Tensor stats = Tensor::Empty({1, kSequence, 3}, DType::kFloat32, *device);
    const Tensor loss = Tensor::Empty({kSequence}, DType::kFloat32, *device);
    CrossEntropyStats(stats, z.data, ids, 0, kWidth);
    CrossEntropyMerge(loss, loss.EmptyLike(), stats, ids);
    const Tensor ones = loss.EmptyLike();
    Fill(ones, 1.0);
    CrossEntropyGradient(z.data, ids, loss, 0, kWidth, ones);
    tape.BackwardInput(z, z.data.EmptyLike());
    tape.BackwardWeight();
    peaks.push_back(
        device->allocator().stats().peak[static_cast<size_t>(MemoryCategory::kActivations)]);
  }
  EXPECT_GT(peaks[0], 0);
  EXPECT_EQ(peaks[0], peaks[1]);
}

TEST(RowOpsDispatchTest, UnsupportedDTypeIsAnError) {
  const auto device = NewCpuDevice();
  const Tensor x = Tensor::Zeros({2, 3}, DType::kFloat64, *device);
  EXPECT_THROW(GeluForward(x.EmptyLike(), x), Error);
}

}  // namespace
}  // namespace cairn
