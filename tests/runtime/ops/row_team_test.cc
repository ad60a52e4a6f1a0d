// The row kernels as a GPU runs them, by blocks of plain threads: rows in registers and in memory,
// at any place, give the same bits, and what a CPU computes but for the order of sums.
#include "runtime/ops/row_team.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "runtime/ops/cross_entropy_kernel.h"
#include "runtime/ops/norm_kernel.h"
#include "runtime/tensor/launch_shape.h"
#include "thread_block_testing.h"

namespace cairn {
namespace {

using testing::ThreadBlock;

constexpr int64_t kRoom = 4096;  // elements of a row, at most
// What lies beside a row must be neither read nor written.
constexpr float kPoison = -12345.0f;

template <typename T>
struct Row {
  explicit Row(int64_t gap) : start(at + gap) {
    std::fill(std::begin(at), std::end(at), T(kPoison));
  }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  void FillRandom(int64_t n, uint32_t seed, float scale, float mean) {
    std::minstd_rand random(seed);
    std::normal_distribution<float> normal(mean, scale);
    for (int64_t i = 0; i < n; ++i) start[i] = T(normal(random));
  }
  std::vector<float> Values(int64_t n) const { return {start, start + n}; }
  bool Untouched(int64_t n) const {
    for (const T* p = at; p < at + kRoom + 16; ++p) {
      if ((p < start || p >= start + n) &&
          static_cast<float>(*p) != static_cast<float>(T(kPoison))) {
        return false;
      }
    }
    return true;
  }

  alignas(kPackBytes) T at[kRoom + 16];
  T* start;
};

// What the kernels give for one row.
struct Outcome {
  std::vector<float> y, dx, dlogits;
  RowMoments moments{};
  CrossEntropyPart part{};

  bool operator==(const Outcome& other) const {
    return y == other.y && dx == other.dx && dlogits == other.dlogits &&
           moments.mean == other.moments.mean && moments.rstd == other.moments.rstd &&
           part.max == other.part.max && part.sum == other.part.sum &&
           part.target_logit == other.part.target_logit;
  }
};

// `run(body)` calls body(team, first) with a team, by each of its threads; `first` by one of them.
template <typename T, typename Run>
Outcome Compute(int64_t n, int64_t gap, const Run& run) {
  static Row<T> x(gap), dy(gap), gamma(gap), beta(gap);
  x.start = x.at + gap;
  dy.start = dy.at + gap;
  gamma.start = gamma.at + gap;
  beta.start = beta.at + gap;
  x.FillRandom(n, 1, 2, 0.5);
  dy.FillRandom(n, 2, 1, 0);
  gamma.FillRandom(n, 3, 0.2F, 1);
  beta.FillRandom(n, 4, 0.2F, 0);
  Row<T> y(gap), dx(gap), logits(gap);
  std::copy(x.start, x.start + n, logits.start);
  Outcome out;
  run([&](const auto& team, bool first) {
    const RowMoments moments =
        LayerNormRow(team, n, y.start, x.start, gamma.start, beta.start, 1e-5F);
    LayerNormGradientRow(team, n, dx.start, dy.start, x.start, gamma.start, moments);
    const int64_t target = n / 3;
    const CrossEntropyPart part = CrossEntropyRow(team, n, logits.start, target);
    const float logsumexp = part.max + std::log(part.sum);
    team.barrier();
    CrossEntropyGradientRow(team, n, logits.start, target, logsumexp, 1000.0F);
    if (first) {
      out.moments = moments;
      out.part = part;
    }
  });
  out.y = y.Values(n);
  out.dx = dx.Values(n);
  out.dlogits = logits.Values(n);
  EXPECT_TRUE(y.Untouched(n) && dx.Untouched(n) && logits.Untouched(n));
  return out;
}

template <typename T, int kPacks>
Outcome ByBlock(int64_t n, int64_t threads, int64_t gap) {
  return Compute<T>(n, gap, [&](const auto& body) {
    ThreadBlock::Run(threads, [&](const ThreadBlock& block) {
      body(RowTeam<ThreadBlock, kPacks>(block), block.thread() == 0);
    });
  });
}

void ExpectNear(const std::vector<float>& got, const std::vector<float>& want, float relative) {
  float rms = 0;
  for (const float v : want) rms += v * v;
  rms = std::sqrt(rms / static_cast<float>(want.size()));
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], relative * (rms + std::abs(want[i]))) << i;
  }
}

template <typename T>
class RowTeamTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16, Float16>;
TYPED_TEST_SUITE(RowTeamTest, Types);

TYPED_TEST(RowTeamTest, HeldOrNotAndWhereverItIsARowGivesTheSameBits) {
  using T = TypeParam;
  const float rounding = sizeof(T) == 4 ? 1e-5F : (std::is_same_v<T, Float16> ? 2e-3F : 2e-2F);
  for (const int64_t n : {1, 7, 8, 31, 256, 259, 520, 1000, 1021}) {
    SCOPED_TRACE(n);
    const Outcome cpu = Compute<T>(n, 0, [](const auto& body) { body(CpuTeam(), true); });
    for (const int64_t threads : {32, 64}) {
      SCOPED_TRACE(threads);
      const Outcome streamed = ByBlock<T, 0>(n, threads, 0);
      EXPECT_NEAR(streamed.moments.mean, cpu.moments.mean, 1e-5);
      EXPECT_NEAR(streamed.moments.rstd / cpu.moments.rstd, 1, 1e-5);
      EXPECT_EQ(streamed.part.max, cpu.part.max);
      EXPECT_EQ(streamed.part.target_logit, cpu.part.target_logit);
      EXPECT_NEAR(streamed.part.sum / cpu.part.sum, 1, 1e-5);
      ExpectNear(streamed.y, cpu.y, rounding);
      ExpectNear(streamed.dx, cpu.dx, rounding);
      ExpectNear(streamed.dlogits, cpu.dlogits, rounding);
      EXPECT_TRUE((ByBlock<T, 0>(n, threads, 1)) == streamed) << "at an odd place";
      const LaunchShape shape{1, static_cast<uint32_t>(threads)};
      const int64_t packs = PacksToHold(shape, n, sizeof(T), 0);
      ASSERT_LE(packs, 8) << "nothing would be held";
      EXPECT_TRUE((ByBlock<T, 8>(n, threads, 0)) == streamed);
      if (packs <= 2) {
        EXPECT_TRUE((ByBlock<T, 2>(n, threads, 0)) == streamed);
      }
    }
  }
}

TEST(EmptyRowTest, SumsUpToNothing) {
  ThreadBlock::Run(32, [](const ThreadBlock& block) {
    const Row<float> x(0);
    const RowTeam<ThreadBlock, 1> team(block);
    const auto row = team.hold(0, x.start);
    const auto value = [](int64_t, const float& v) { return v; };
    EXPECT_EQ(team.reduce(0, value, row), 0.0F);
    EXPECT_EQ(team.reduce_max(0, value, row), -__builtin_inff());
  });
}

}  // namespace
}  // namespace cairn
