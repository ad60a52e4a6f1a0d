#include "optimizer/loss_scaler.h"

#include <gtest/gtest.h>

#include <string_view>

namespace cairn {
namespace {

constexpr double kInitial = 0x1p32;

LossScaler::Options Dynamic() {
  return {
      .dynamic = true, .initial_scale = kInitial, .min_scale = 1, .window = 1000, .hysteresis = 2};
}

// '.' is a good step, 'X' an overflow.
void Play(LossScaler& scaler, std::string_view steps) {
  for (const char step : steps) scaler.Update(step == 'X');
}

TEST(LossScalerTest, FirstOverflowIsForgivenTheSecondHalves) {
  LossScaler scaler(Dynamic());
  EXPECT_EQ(scaler.scale(), kInitial);
  Play(scaler, "X");
  EXPECT_EQ(scaler.scale(), kInitial);
  Play(scaler, "X");
  EXPECT_EQ(scaler.scale(), kInitial / 2);
}

TEST(LossScalerTest, HalvesAtEveryOverflowOnceTheHysteresisIsSpent) {
  LossScaler scaler(Dynamic());
  Play(scaler, "XXXX");
  EXPECT_EQ(scaler.scale(), kInitial / 8);
  Play(scaler, "....X");  // good steps short of a window give nothing back
  EXPECT_EQ(scaler.scale(), kInitial / 16);
}

TEST(LossScalerTest, DoublesAfterAWindowOfGoodStepsAndForgivesAgain) {
  LossScaler scaler(Dynamic());
  Play(scaler, std::string(999, '.'));
  EXPECT_EQ(scaler.scale(), kInitial);
  Play(scaler, ".");
  EXPECT_EQ(scaler.scale(), 2 * kInitial);
  Play(scaler, "XX");
  EXPECT_EQ(scaler.scale(), kInitial);
  Play(scaler, std::string(1000, '.'));
  EXPECT_EQ(scaler.scale(), 2 * kInitial);
  Play(scaler, "X");
  EXPECT_EQ(scaler.scale(), 2 * kInitial) << "the window restores the hysteresis";
}

TEST(LossScalerTest, AnOverflowStartsTheWindowAnew) {
  LossScaler scaler(Dynamic());
  Play(scaler, std::string(999, '.') + "X" + std::string(999, '.'));
  EXPECT_EQ(scaler.scale(), kInitial);
  Play(scaler, ".");
  EXPECT_EQ(scaler.scale(), 2 * kInitial);
}

TEST(LossScalerTest, NeverBelowTheMinimum) {
  LossScaler scaler(Dynamic());
  Play(scaler, std::string(33, 'X'));
  EXPECT_EQ(scaler.scale(), 1);
  Play(scaler, std::string(5, 'X'));
  EXPECT_EQ(scaler.scale(), 1);
  Play(scaler, std::string(1000, '.'));
  EXPECT_EQ(scaler.scale(), 2);
}

TEST(LossScalerTest, AConstantScaleStays) {
  LossScaler scaler({.dynamic = false, .initial_scale = 128});
  Play(scaler, "XXXX" + std::string(3000, '.'));
  EXPECT_EQ(scaler.scale(), 128);
}

TEST(LossScalerTest, StateResumesInTheMiddleOfAWindow) {
  LossScaler first(Dynamic());
  Play(first, "X" + std::string(600, '.'));
  LossScaler second(Dynamic());
  second.set_state(first.state());
  Play(second, std::string(399, '.'));
  EXPECT_EQ(second.scale(), kInitial);
  Play(second, ".");
  EXPECT_EQ(second.scale(), 2 * kInitial);

  LossScaler third(Dynamic());
  third.set_state(first.state());
  Play(third, "X");  // the hysteresis was spent before
  EXPECT_EQ(third.scale(), kInitial / 2);
}

}  // namespace
}  // namespace cairn
