#include "runtime/ops/attention.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "jacobian_testing.h"
#include "product_testing.h"
#include "runtime/ops/cpu_isa.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;
using testing::ScopedThreads;
using testing::ToDoubles;

constexpr RandomKey kKey{.seed = 77, .step = 5, .site = 3};

int64_t Width(const AttentionSpec& spec) { return (spec.heads + 2 * spec.groups) * spec.head_dim; }
int64_t Rows(const AttentionSpec& spec) { return spec.samples * spec.seq_length; }

struct Gradients {
  std::vector<double> out, logsumexp, dqkv;
};

// The whole [seq, seq] matrices, in fp64, straight from the definition.
Gradients Reference(const AttentionSpec& spec, const std::vector<double>& qkv,
                    const std::vector<double>& dout) {
  const int64_t seq = spec.seq_length;
  const int64_t dim = spec.head_dim;
  const int64_t width = Width(spec);
  const int64_t per_group = spec.heads / spec.groups;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  Gradients result{std::vector<double>(Rows(spec) * spec.heads * dim, 0.0),
                   std::vector<double>(spec.samples * spec.heads * seq, 0.0),
                   std::vector<double>(qkv.size(), 0.0)};
  for (int64_t s = 0; s < spec.samples; ++s) {
    for (int64_t h = 0; h < spec.heads; ++h) {
      const int64_t base = h / per_group * (per_group + 2) * dim;
      const int64_t q_column = base + h % per_group * dim;
      const int64_t k_column = base + per_group * dim;
      const int64_t v_column = k_column + dim;
      const auto at = [&](int64_t row, int64_t column) { return (s * seq + row) * width + column; };
      const auto out_at = [&](int64_t row, int64_t i) {
        return ((s * seq + row) * spec.heads + h) * dim + i;
      };
      for (int64_t q = 0; q < seq; ++q) {
        std::vector<double> p(q + 1);
        std::vector<double> keep(q + 1, 1.0);
        double max = -1e300;
        for (int64_t k = 0; k <= q; ++k) {
          for (int64_t i = 0; i < dim; ++i) {
            p[k] += scale * qkv[at(q, q_column + i)] * qkv[at(k, k_column + i)];
          }
          max = std::max(max, p[k]);
        }
        double sum = 0;
        for (double& x : p) sum += x = std::exp(x - max);
        result.logsumexp[(s * spec.heads + h) * seq + q] = max + std::log(sum);
        std::vector<double> dp(q + 1);
        double mean = 0;
        for (int64_t k = 0; k <= q; ++k) {
          p[k] /= sum;
          if (spec.dropout > 0) {
            const int64_t plane = (spec.first_sample + s) * spec.total_heads + spec.first_head + h;
            const bool kept =
                RandomWord(spec.key, (plane * seq + q) * seq + k) >= DropThreshold(spec.dropout);
            keep[k] = kept ? 1.0 / (1.0 - spec.dropout) : 0.0;
          }
          for (int64_t i = 0; i < dim; ++i) {
            result.out[out_at(q, i)] += p[k] * keep[k] * qkv[at(k, v_column + i)];
            result.dqkv[at(k, v_column + i)] += p[k] * keep[k] * dout[out_at(q, i)];
            dp[k] += keep[k] * dout[out_at(q, i)] * qkv[at(k, v_column + i)];
          }
          mean += p[k] * dp[k];
        }
        for (int64_t k = 0; k <= q; ++k) {
          const double ds = p[k] * (dp[k] - mean) * scale;
          for (int64_t i = 0; i < dim; ++i) {
            result.dqkv[at(q, q_column + i)] += ds * qkv[at(k, k_column + i)];
            result.dqkv[at(k, k_column + i)] += ds * qkv[at(q, q_column + i)];
          }
        }
      }
    }
  }
  return result;
}

struct Outcome {
  Tensor out, logsumexp, dqkv;
};

Outcome Evaluate(const AttentionSpec& spec, const Tensor& qkv, const Tensor& dout) {
  Outcome outcome{
      dout.EmptyLike(),
      Tensor::Empty({spec.samples, spec.heads, spec.seq_length}, DType::kFloat32, qkv.device()),
      qkv.EmptyLike()};
  AttentionForward(outcome.out, outcome.logsumexp, qkv, spec);
  AttentionBackward(outcome.dqkv, dout, qkv, outcome.out, outcome.logsumexp, spec);
  return outcome;
}

class AttentionTest : public ::testing::Test {
 protected:
  Tensor Qkv(const AttentionSpec& spec, DType dtype = DType::kFloat32) {
    return RandomTensor(*device_, {Rows(spec), Width(spec)}, 1, 1.0, 0.0, dtype);
  }
  Tensor Dout(const AttentionSpec& spec, DType dtype = DType::kFloat32) {
    return RandomTensor(*device_, {Rows(spec), spec.heads * spec.head_dim}, 2, 1.0, 0.0, dtype);
  }
  void CheckAgainstReference(const AttentionSpec& spec, DType dtype, double tolerance) {
    SCOPED_TRACE(fmt::format("{} samples {} seq {} heads {} groups {} dim {} dropout {}",
                             DTypeName(dtype), spec.samples, spec.seq_length, spec.heads,
                             spec.groups, spec.head_dim, spec.dropout));
    const Tensor qkv = Qkv(spec, dtype);
    const Tensor dout = Dout(spec, dtype);
    const Outcome outcome = Evaluate(spec, qkv, dout);
    const Gradients expected = Reference(spec, ToDoubles(qkv), ToDoubles(dout));
    testing::ExpectClose(outcome.out, expected.out, tolerance, "out");
    testing::ExpectClose(outcome.logsumexp, expected.logsumexp, 1e-5, "logsumexp");
    // The backward pass starts from the rounded output, in sums over head_dim.
    testing::ExpectClose(outcome.dqkv, expected.dqkv, 4 * tolerance, "dqkv");
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

// Sequences of one token, odd, at a block's border and beyond; odd head sizes; grouped queries.
TEST_F(AttentionTest, EqualsFp64Definition) {
  for (const int64_t seq : {1, 2, 17, 64, 65, 128, 131, 200, 257}) {
    for (const double dropout : {0.0, 0.2}) {
      CheckAgainstReference({.samples = 1,
                             .seq_length = seq,
                             .heads = 2,
                             .groups = 1,
                             .head_dim = 9,
                             .dropout = dropout,
                             .key = kKey,
                             .first_sample = 3,
                             .first_head = 1,
                             .total_heads = 7},
                            DType::kFloat32, 1e-5);
    }
  }
  for (const auto& [heads, groups, dim] :
       {std::array<int64_t, 3>{1, 1, 1}, {4, 4, 16}, {6, 2, 33}, {4, 1, 64}}) {
    CheckAgainstReference({.samples = 2,
                           .seq_length = 70,
                           .heads = heads,
                           .groups = groups,
                           .head_dim = dim,
                           .dropout = 0.1,
                           .key = kKey,
                           .total_heads = heads},
                          DType::kFloat32, 1e-5);
  }
}

TEST_F(AttentionTest, EveryDType) {
  const AttentionSpec spec{.samples = 2,
                           .seq_length = 150,
                           .heads = 4,
                           .groups = 2,
                           .head_dim = 20,
                           .dropout = 0.1,
                           .key = kKey,
                           .total_heads = 4};
  // Probabilities and gradients of scores are rounded where bf16 vectors multiply them.
  CheckAgainstReference(spec, DType::kBFloat16, HasFastBFloat16Vectors() ? 0x1p-6 : 0x1p-7);
  CheckAgainstReference(spec, DType::kFloat16, 0x1p-10);
}

TEST_F(AttentionTest, LargeScoresDoNotOverflow) {
  const AttentionSpec spec{.samples = 1, .seq_length = 140, .heads = 1, .groups = 1, .head_dim = 8};
  const Tensor qkv = RandomTensor(*device_, {Rows(spec), Width(spec)}, 1, 40.0);
  const Tensor dout = Dout(spec);
  const Outcome outcome = Evaluate(spec, qkv, dout);
  const Gradients expected = Reference(spec, ToDoubles(qkv), ToDoubles(dout));
  // Scores of some thousands: their rounding alone is 1e-4.
  testing::ExpectClose(outcome.out, expected.out, 5e-3, "out");
  testing::ExpectClose(outcome.logsumexp, expected.logsumexp, 1e-5, "logsumexp");
}

TEST_F(AttentionTest, Jacobian) {
  const ScopedThreads one(1);  // thousands of tiny evaluations
  for (const double dropout : {0.0, 0.3}) {
    const AttentionSpec spec{.samples = 2,
                             .seq_length = 5,
                             .heads = 4,
                             .groups = 2,
                             .head_dim = 3,
                             .dropout = dropout,
                             .key = kKey,
                             .total_heads = 4};
    testing::CheckJacobian(
        [&](Tape& tape, std::span<const Value> in) { return CausalAttention(tape, in[0], spec); },
        {Qkv(spec)}, {}, {.max_probes = 120});
  }
}

TEST_F(AttentionTest, EqualsPyTorch) {
  const testing::ReferenceFile file("attention_reference.json");
  const AttentionSpec spec{.samples = file.Number("samples"),
                           .seq_length = file.Number("seq_length"),
                           .heads = file.Number("heads"),
                           .groups = file.Number("groups"),
                           .head_dim = file.Number("head_dim")};
  Tape tape;
  const Value qkv = tape.Input(file.Load("qkv", {Rows(spec), Width(spec)}, *device_));
  const Value out = CausalAttention(tape, qkv, spec);
  testing::ExpectClose(out.data, file.Doubles("out"), 2e-6, "out");
  tape.BackwardInput(out, file.Load("dout", out.data.shape(), *device_));
  testing::ExpectClose(tape.TakeGradient(qkv), file.Doubles("dqkv"), 2e-6, "dqkv");
}

TEST_F(AttentionTest, TheFutureHasNoInfluence) {
  const AttentionSpec spec{.samples = 1, .seq_length = 150, .heads = 2, .groups = 2, .head_dim = 8};
  const Tensor qkv = Qkv(spec);
  const Outcome before = Evaluate(spec, qkv, Dout(spec));
  Fill(qkv.Narrow(0, 100, 50), 1e30);
  const Outcome after = Evaluate(spec, qkv, Dout(spec));
  EXPECT_EQ(Bits(before.out.Narrow(0, 0, 100)), Bits(after.out.Narrow(0, 0, 100)));
}

// A rank of a layout computes some heads of some samples: with the bits of the whole.
TEST_F(AttentionTest, PartsHaveTheBitsOfTheWhole) {
  constexpr int64_t kSeq = 133;
  constexpr int64_t kDim = 12;
  AttentionSpec whole{.samples = 3,
                      .seq_length = kSeq,
                      .heads = 6,
                      .groups = 3,
                      .head_dim = kDim,
                      .dropout = 0.25,
                      .key = kKey,
                      .first_sample = 8,
                      .total_heads = 6};
  const Tensor qkv = Qkv(whole);
  const Tensor dout = Dout(whole);
  Outcome all;
  {
    const ScopedThreads one(1);
    all = Evaluate(whole, qkv, dout);
  }
  {
    const ScopedThreads three(3);
    const Outcome again = Evaluate(whole, qkv, dout);
    EXPECT_EQ(Bits(all.out), Bits(again.out));
    EXPECT_EQ(Bits(all.dqkv), Bits(again.dqkv));
  }
  for (int64_t sample = 0; sample < 3; ++sample) {
    for (int64_t group = 0; group < 3; ++group) {
      AttentionSpec part = whole;
      part.samples = 1;
      part.first_sample = 8 + sample;
      part.heads = 2;
      part.groups = 1;
      part.first_head = 2 * group;
      const auto cut = [&](const Tensor& matrix, int64_t columns) {
        return ContiguousCopy(
            matrix.Narrow(0, sample * kSeq, kSeq).Narrow(1, group * columns, columns));
      };
      const Outcome some = Evaluate(part, cut(qkv, 4 * kDim), cut(dout, 2 * kDim));
      EXPECT_EQ(Bits(some.out), Bits(cut(all.out, 2 * kDim))) << sample << ", " << group;
      EXPECT_EQ(Bits(some.dqkv), Bits(cut(all.dqkv, 4 * kDim))) << sample << ", " << group;
    }
  }
}

TEST_F(AttentionTest, MemoryIsLinearInTheSequence) {
  const AttentionSpec spec{
      .samples = 1, .seq_length = 2048, .heads = 1, .groups = 1, .head_dim = 8};
  const Tensor qkv = Qkv(spec);
  const Tensor dout = Dout(spec);
  device_->allocator().ResetPeaks();
  const int64_t before = device_->allocator().stats().current_total;
  Evaluate(spec, qkv, dout);
  const int64_t peak = device_->allocator().stats().peak_total - before;
  EXPECT_LT(peak, spec.seq_length * spec.seq_length * 4 / 10) << "a tenth of a score matrix";
}

TEST_F(AttentionTest, TapeKeepsWhatBackwardNeedsAndNoMore) {
  const AttentionSpec spec{.samples = 1, .seq_length = 33, .heads = 2, .groups = 2, .head_dim = 4};
  Tape evaluation({.recording = false});
  EXPECT_FALSE(CausalAttention(evaluation, evaluation.Input(Qkv(spec)), spec).needs_gradient());
  Tape tape;
  EXPECT_FALSE(CausalAttention(tape, Value{Qkv(spec)}, spec).needs_gradient());
  EXPECT_EQ(tape.num_nodes(), 0);

  const auto meta = NewMetaDevice();
  const Value qkv = tape.Input(Tensor::Empty({33, 24}, DType::kBFloat16, *meta));
  const int64_t before = meta->allocator().stats().current_total;
  const Value out = CausalAttention(tape, qkv, spec);
  EXPECT_EQ(meta->allocator().stats().current_total - before, 33 * 8 * 2 + 2 * 33 * 4);
  tape.BackwardInput(out, out.data.EmptyLike());
  EXPECT_EQ(tape.TakeGradient(qkv).shape(), qkv.data.shape());
}

TEST_F(AttentionTest, MisfitsAreCaught) {
  AttentionSpec spec{.samples = 1, .seq_length = 4, .heads = 2, .groups = 2, .head_dim = 4};
  const Tensor qkv = Qkv(spec);
  Tape tape;
  spec.seq_length = 5;
  EXPECT_DEATH(CausalAttention(tape, Value{qkv}, spec), "24");
  spec.seq_length = 4;
  spec.dropout = 0.1;  // total_heads is not said: two heads could share a mask
  EXPECT_DEATH(CausalAttention(tape, Value{qkv}, spec), "heads from 0 of 0");
}

}  // namespace
}  // namespace cairn
