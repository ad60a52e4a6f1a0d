// train.deterministic: changes of dp, pp, micro batch size, ZeRO, schedule and recomputation leave
// every bit as it was.
#include <gtest/gtest.h>

#include "layouts_testing.h"

namespace cairn::testing {
namespace {

#ifdef CAIRN_SANITIZED
constexpr int kIterations = 1;
#else
constexpr int kIterations = 8;
#endif

Layout Deterministic(Layout layout) {
  layout.deterministic = true;
  return layout;
}

class DeterministicTest : public ::testing::TestWithParam<Layout> {};

TEST_P(DeterministicTest, EqualsOneModelCopyBitwise) {
  Layout plain;
  plain.tp = GetParam().tp;
  plain.sequence_parallel = GetParam().sequence_parallel;
  plain.precision = GetParam().precision;
  EXPECT_EQ(Train(Deterministic(GetParam()), kIterations), Train(Deterministic(plain), kIterations))
      << GetParam().Name();
}

std::vector<Layout> Changes() {
  std::vector<Layout> changes = {
      {.tp = 2, .pp = 2, .dp = 2, .zero = true, .micro_batch_size = 1},
      {.pp = 2, .dp = 3, .zero = true, .precision = "bf16"},
#ifndef CAIRN_SANITIZED
      {.micro_batch_size = 1},
      {.micro_batch_size = 24},
      {.dp = 2, .micro_batch_size = 3},
      {.dp = 3, .zero = true},
      {.pp = 3, .micro_batch_size = 4},
      {.pp = 2, .schedule = "gpipe"},
      {.pp = 2, .dp = 4, .zero = true, .micro_batch_size = 1},
      {.pp = 2, .dp = 2, .recompute = "full"},
      {.pp = 2, .dp = 2, .recompute = "selective"},
      {.tp = 3, .dp = 2, .sequence_parallel = true, .micro_batch_size = 4},
      {.pp = 2, .dp = 2, .micro_batch_size = 1, .precision = "fp16"},
#endif
  };
  return changes;
}

INSTANTIATE_TEST_SUITE_P(Changes, DeterministicTest, ::testing::ValuesIn(Changes()));

}  // namespace
}  // namespace cairn::testing
