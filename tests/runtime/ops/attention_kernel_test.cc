#include "runtime/ops/attention_kernel.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "jacobian_testing.h"
#include "runtime/ops/row_team.h"
#include "thread_block_testing.h"

namespace cairn {
namespace {

using testing::RandomTensor;
using testing::ToDoubles;

// A team whose threads are as unlucky as can be: what it is asked to do between two barriers it
// does in reverse, later requests first. A kernel that lacks a barrier computes something else.
class UnluckyTeam {
 public:
  explicit UnluckyTeam(bool heeds_barriers = true) : heeds_barriers_(heeds_barriers) {}
  ~UnluckyTeam() { Run(); }
  UnluckyTeam(const UnluckyTeam&) = delete;
  UnluckyTeam& operator=(const UnluckyTeam&) = delete;

  template <typename F>
  void for_each(int64_t n, F&& f) const {
    pending_.push_back([n, f = std::forward<F>(f)] {
      for (int64_t i = n - 1; i >= 0; --i) f(i);
    });
  }
  void barrier() const {
    if (heeds_barriers_) Run();
  }

 private:
  void Run() const {
    while (!pending_.empty()) {
      pending_.back()();
      pending_.pop_back();
    }
  }

  bool heeds_barriers_;
  mutable std::vector<std::function<void()>> pending_;
};

struct Outcome {
  Tensor out, logsumexp, dqkv;
};

class AttentionKernelTest : public ::testing::Test {
 protected:
  Outcome Empty(const AttentionSpec& spec, const Tensor& qkv, const Tensor& dout) {
    return {dout.EmptyLike(),
            Tensor::Empty({spec.samples, spec.heads, spec.seq_length}, DType::kFloat32, *device_),
            qkv.EmptyLike()};
  }

  template <typename T>
  Outcome ByTiles(const AttentionSpec& spec, const Tensor& qkv, const Tensor& dout,
                  bool heed_barriers = true) {
    Outcome result = Empty(spec, qkv, dout);
    const AttentionGeometry g(spec);
    // What a kernel reads before it writes shows.
    std::vector<float> scratch(std::max(AttentionForwardScratch(g), AttentionBackwardScratch(g)),
                               std::numeric_limits<float>::quiet_NaN());
    T* const out = result.out.template data<T>();
    T* const dqkv = result.dqkv.template data<T>();
    float* const logsumexp = result.logsumexp.data<float>();
    const AttentionSaved<T> saved{dout.data<T>(), qkv.data<T>(), out, logsumexp};
    const auto each = [&](int64_t heads, auto&& tile) {
      for (int64_t s = 0; s < spec.samples; ++s) {
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t t = 0; t < g.Tiles(); ++t) tile(s, h, t);
        }
      }
    };
    each(spec.heads, [&](int64_t s, int64_t h, int64_t t) {
      AttentionForwardTile(UnluckyTeam(heed_barriers), scratch.data(), out, logsumexp,
                           qkv.data<T>(), g, s, h, t);
    });
    each(spec.heads, [&](int64_t s, int64_t h, int64_t t) {
      AttentionBackwardQueryTile(UnluckyTeam(heed_barriers), scratch.data(), dqkv, saved, g, s, h,
                                 t);
    });
    each(spec.groups, [&](int64_t s, int64_t h, int64_t t) {
      AttentionBackwardKeyTile(UnluckyTeam(heed_barriers), scratch.data(), dqkv, saved, g, s, h, t);
    });
    return result;
  }

  template <typename T>
  void ExpectTheCpusResult(const AttentionSpec& spec, double tolerance) {
    SCOPED_TRACE(fmt::format("samples {} seq {} heads {} groups {} dim {} dropout {}", spec.samples,
                             spec.seq_length, spec.heads, spec.groups, spec.head_dim,
                             spec.dropout));
    const DType dtype = DTypeOf<T>::kValue;
    const int64_t rows = spec.samples * spec.seq_length;
    const int64_t width = (spec.heads + 2 * spec.groups) * spec.head_dim;
    const Tensor qkv = RandomTensor(*device_, {rows, width}, 1, 1.0, 0.0, dtype);
    const Tensor dout =
        RandomTensor(*device_, {rows, spec.heads * spec.head_dim}, 2, 1.0, 0.0, dtype);
    Outcome expected = Empty(spec, qkv, dout);
    AttentionForward(expected.out, expected.logsumexp, qkv, spec);
    AttentionBackward(expected.dqkv, dout, qkv, expected.out, expected.logsumexp, spec);
    const Outcome outcome = ByTiles<T>(spec, qkv, dout);
    testing::ExpectClose(outcome.out, ToDoubles(expected.out), tolerance, "out");
    testing::ExpectClose(outcome.logsumexp, ToDoubles(expected.logsumexp), 1e-5, "logsumexp");
    testing::ExpectClose(outcome.dqkv, ToDoubles(expected.dqkv), 4 * tolerance, "dqkv");
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

AttentionSpec Spec(int64_t samples, int64_t seq, int64_t heads, int64_t groups, int64_t dim,
                   double dropout = 0) {
  return {.samples = samples,
          .seq_length = seq,
          .heads = heads,
          .groups = groups,
          .head_dim = dim,
          .dropout = dropout,
          .key = {.seed = 7, .step = 3, .site = 1},
          .first_sample = 5,
          .first_head = 2,
          .total_heads = heads + 3};
}

TEST_F(AttentionKernelTest, TilesGiveTheCpusResult) {
  for (const int64_t seq : {1, 2, 31, 32, 33, 65}) {
    ExpectTheCpusResult<float>(Spec(2, seq, 2, 2, 16), 1e-5);
    ExpectTheCpusResult<float>(Spec(1, seq, 4, 2, 9, 0.2), 1e-5);
  }
  ExpectTheCpusResult<float>(Spec(1, 40, 3, 1, 256), 1e-5);
  ExpectTheCpusResult<BFloat16>(Spec(2, 50, 4, 2, 20, 0.1), 0x1p-7);
  ExpectTheCpusResult<Float16>(Spec(2, 50, 4, 2, 20, 0.1), 0x1p-10);
}

TEST_F(AttentionKernelTest, WithoutItsBarriersTheResultIsAnother) {
  const AttentionSpec spec = Spec(1, 33, 1, 1, 8);
  const Tensor qkv = RandomTensor(*device_, {33, 24}, 1, 1.0);
  const Tensor dout = RandomTensor(*device_, {33, 8}, 2, 1.0);
  const Outcome right = ByTiles<float>(spec, qkv, dout);
  const Outcome wrong = ByTiles<float>(spec, qkv, dout, false);
  EXPECT_NE(right.out.ToHost<float>(), wrong.out.ToHost<float>());
}

TEST(AttentionMaskTest, KeepsWhatTheTilesKeep) {
  for (const int64_t seq : {1, 2, 7, 16, 33}) {
    const AttentionGeometry g(Spec(2, seq, 3, 1, 8, 0.4));
    int64_t kept = 0;
    for (int64_t row = 0; row < 2 * 3 * seq; ++row) {
      const int64_t sample = row / seq / 3;
      const int64_t head = row / seq % 3;
      const int64_t q = row % seq;
      std::vector<Float16> mask(seq, Float16(std::numeric_limits<float>::quiet_NaN()));
      testing::ThreadBlock::Run(2, [&](const testing::ThreadBlock& block) {
        AttentionMaskRow(RowTeam<testing::ThreadBlock, 1>(block), mask.data(), g, sample, head, q);
      });
      for (int64_t k = 0; k < seq; ++k) {
        const bool keeps = k <= q && g.DropoutFactor(sample, head, q, k) != 0;
        ASSERT_EQ(static_cast<float>(mask[k]), keeps ? 1.0f : 0.0f)
            << "seq " << seq << " row " << row << " key " << k;
        kept += keeps ? 1 : 0;
      }
    }
    EXPECT_TRUE(kept > 0 || seq == 1);
    EXPECT_LT(kept, 6 * seq * (seq + 1) / 2);
  }
}

TEST(AttentionGeometryTest, TilesFitTheSharedMemoryOfABlock) {
  for (const int64_t dim : {1, 8, 64, 80, 96, 128, 160, 256, 512, 1024}) {
    const AttentionGeometry g(Spec(1, 2048, 4, 2, dim));
    const int64_t floats = std::max(AttentionForwardScratch(g), AttentionBackwardScratch(g));
    EXPECT_LE(floats * 4, 160 << 10) << dim;
    EXPECT_GE(g.tile, 1) << dim;
    EXPECT_TRUE(dim > 128 || g.tile == 32) << dim;
    EXPECT_EQ(g.Tiles() * g.tile, 2048) << dim;
  }
}

}  // namespace
}  // namespace cairn
