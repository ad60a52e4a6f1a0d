#include "runtime/autograd/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/autograd/weight.h"
#include "runtime/device/device.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;

class TapeTest : public ::testing::Test {
 protected:
  Tensor Make(std::vector<float> elements) {
    return Tensor::FromHost<float>(elements, {static_cast<int64_t>(elements.size())}, *device_);
  }
  // y = factor x, and a note in log_ when each phase runs.
  Value Times(Tape& tape, const Value& x, double factor, const std::string& name) {
    Tensor y = ContiguousCopy(x.data);
    Scale(y, factor);
    return tape.Record("times", y, [=, this, id = x.id](Tape& tape, const Tensor& dy) {
      log_.push_back("input " + name);
      tape.DeferWeightGradient([=, this] { log_.push_back("weight " + name); });
      Tensor dx = ContiguousCopy(dy);
      Scale(dx, factor);
      tape.AddGradient(id, dx);
    });
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
  std::vector<std::string> log_;
};

TEST_F(TapeTest, TwoPhases) {
  Tape tape;
  const Value x = tape.Input(Make({1, 2}));
  const Value y = Times(tape, Times(tape, x, 2, "a"), 5, "b");
  EXPECT_EQ(tape.num_nodes(), 2U);
  EXPECT_TRUE(log_.empty());
  tape.BackwardInput(y, Make({1, 10}));
  EXPECT_THAT(log_, ElementsAre("input b", "input a"));
  EXPECT_THAT(tape.TakeGradient(x).ToHost<float>(), ElementsAre(10, 100));
  tape.BackwardWeight();
  EXPECT_THAT(log_, ElementsAre("input b", "input a", "weight b", "weight a"));
  tape.BackwardWeight();  // nothing is left to do
  EXPECT_EQ(log_.size(), 4U);
}

TEST_F(TapeTest, BothPhasesNodeByNode) {
  Tape tape;
  const Value x = tape.Input(Make({1, 2}));
  const Value y = Times(tape, Times(tape, x, 2, "a"), 5, "b");
  tape.Backward(y, Make({1, 10}));
  EXPECT_THAT(log_, ElementsAre("input b", "weight b", "input a", "weight a"));
  EXPECT_THAT(tape.TakeGradient(x).ToHost<float>(), ElementsAre(10, 100));
}

TEST_F(TapeTest, WhatIsCheapIsSavedAsTheWayToHaveItAgain) {
  Value value{Make({1, 2})};
  EXPECT_EQ(Saved(value).Get().raw(), value.data.raw());
  value.again = [this] { return Make({3, 4}); };
  const int64_t before = device_->allocator().stats().current_total;
  const Saved saved(value);
  value.data = Tensor();
  EXPECT_LT(device_->allocator().stats().current_total, before);
  EXPECT_THAT(saved.Get().ToHost<float>(), ElementsAre(3, 4));
}

TEST_F(TapeTest, GradientsOfSeveralUsesAdd) {
  Tape tape;
  const Value x = tape.Input(Make({3}));
  const Value a = Times(tape, x, 2, "a");
  const Value b = Times(tape, x, 7, "b");
  const Value y =
      tape.Record("add", x.data, [a = a.id, b = b.id, x = x.id](Tape& tape, const Tensor& dy) {
        // One tensor, given away three times: the sums must not run into each other.
        tape.AddGradient(a, dy);
        tape.AddGradient(b, dy);
        tape.AddGradient(x, dy);
      });
  const Tensor gradient = Make({1});
  tape.BackwardInput(y, gradient);
  EXPECT_THAT(tape.TakeGradient(x).ToHost<float>(), ElementsAre(10));
  EXPECT_THAT(gradient.ToHost<float>(), ElementsAre(1));
}

TEST_F(TapeTest, UnusedBranchesContributeNothing) {
  Tape tape;
  const Value x = tape.Input(Make({3}));
  (void)Times(tape, x, 2, "unused");
  const Value y = Times(tape, x, 7, "used");
  tape.BackwardInput(y, Make({1}));
  EXPECT_THAT(log_, ElementsAre("input used"));
  EXPECT_THAT(tape.TakeGradient(x).ToHost<float>(), ElementsAre(7));
}

TEST_F(TapeTest, BackwardMayStartInTheMiddle) {
  Tape tape;
  const Value x = tape.Input(Make({3}));
  const Value y = Times(tape, x, 2, "a");
  (void)Times(tape, y, 7, "after");
  tape.BackwardInput(y, Make({1}));
  EXPECT_THAT(log_, ElementsAre("input a"));
}

TEST_F(TapeTest, SavedTensorsAreReleasedNodeByNode) {
  const auto in_use = [&] { return device_->allocator().stats().current_total; };
  Tape tape;
  const Value x = tape.Input(Make({3}));
  std::vector<int64_t> during;
  Value y = x;
  for (int i = 0; i < 3; ++i) {
    const Tensor saved = Tensor::Empty({1000}, DType::kFloat32, *device_);
    y = tape.Record("op", y.data, [&, saved, id = y.id](Tape& tape, const Tensor& dy) {
      during.push_back(in_use());
      tape.AddGradient(id, dy);
      tape.DeferWeightGradient([saved] {});
    });
  }
  const int64_t recorded = in_use();
  tape.BackwardInput(y, Make({1}));
  EXPECT_EQ(during[2], during[0]) << "deferred work still holds what it needs";
  tape.BackwardWeight();
  (void)tape.TakeGradient(x);
  EXPECT_EQ(in_use(), recorded - 12000);

  during.clear();
  Tape without_weights;
  y = without_weights.Input(Make({3}));
  for (int i = 0; i < 3; ++i) {
    const Tensor saved = Tensor::Empty({1000}, DType::kFloat32, *device_);
    y = without_weights.Record("op", y.data, [&, saved, id = y.id](Tape& tape, const Tensor& dy) {
      during.push_back(in_use());
      tape.AddGradient(id, dy);
    });
  }
  without_weights.BackwardInput(y, Make({1}));
  EXPECT_EQ(during[1], during[0] - 4000);
  EXPECT_EQ(during[2], during[0] - 8000);
}

TEST_F(TapeTest, NotRecordingKeepsNothing) {
  Tape tape({.recording = false});
  const Value x = tape.Input(Make({1}));
  EXPECT_FALSE(x.needs_gradient());
  const auto saved = std::make_shared<int>(0);
  const Value y = tape.Record("op", x.data, [saved](Tape&, const Tensor&) {});
  EXPECT_FALSE(y.needs_gradient());
  EXPECT_EQ(saved.use_count(), 1);
  EXPECT_EQ(tape.num_nodes(), 0U);
}

TEST_F(TapeTest, NullBackwardMakesAConstant) {
  Tape tape;
  EXPECT_FALSE(tape.Record("op", Make({1}), nullptr).needs_gradient());
  tape.AddGradient(-1, Make({1}));  // the gradient of a constant is dropped
}

using TapeDeathTest = TapeTest;

TEST_F(TapeDeathTest, MisuseIsCaught) {
  Tape tape;
  const Value x = tape.Input(Make({1}));
  EXPECT_DEATH(tape.BackwardInput(Value{Make({1})}, Make({1})), "not recorded");
  EXPECT_DEATH((void)tape.TakeGradient(x), "no gradient");
  tape.BackwardInput(x, Make({1}));
  (void)tape.TakeGradient(x);
  EXPECT_DEATH((void)tape.TakeGradient(x), "no gradient");
}

class MainGradTest : public TapeTest {};

TEST_F(MainGradTest, CompleteAfterTheLastUse) {
  MainGrad grad(Tensor::Zeros({1}, DType::kFloat32, *device_));
  int completions = 0;
  grad.set_on_complete([&] { ++completions; });
  // Two uses in one microbatch (an embedding tied to the output head), twice.
  for (int microbatch = 1; microbatch <= 2; ++microbatch) {
    grad.NoteUse();
    grad.NoteUse();
    grad.NoteContribution();
    EXPECT_EQ(completions, microbatch - 1);
    grad.NoteContribution();
    EXPECT_EQ(completions, microbatch);
  }
}

TEST_F(MainGradTest, TwoMicrobatchesInFlight) {
  MainGrad grad(Tensor::Zeros({1}, DType::kFloat32, *device_));
  int completions = 0;
  grad.set_on_complete([&] { ++completions; });
  grad.NoteUse();
  grad.NoteUse();
  grad.NoteContribution();
  grad.NoteUse();
  grad.NoteContribution();
  EXPECT_EQ(completions, 0);
  grad.NoteContribution();
  EXPECT_EQ(completions, 1);
}

TEST_F(MainGradTest, AddsRowsInBothModes) {
  for (bool exact : {false, true}) {
    const auto zeros = [&](DType dtype) { return Tensor::Zeros({3, 2}, dtype, *device_); };
    MainGrad grad = exact ? MainGrad(zeros(DType::kFloat64), zeros(DType::kFloat64))
                          : MainGrad(zeros(DType::kFloat32));
    EXPECT_EQ(grad.exact(), exact);
    grad.Add(Make({1, 2, 3, 4, 5, 6}).View({3, 2}));
    grad.AddRows(1, Make({10, 20, 30, 40}).View({2, 2}));
    grad.AddRows(2, Make({0.5, 0.25}));  // one row
    const std::vector<double> expected = {1, 2, 13, 24, 35.5, 46.25};
    if (exact) {
      EXPECT_EQ(grad.hi().ToHost<double>(), expected);
    } else {
      const auto sum = grad.sum().ToHost<float>();
      EXPECT_EQ(std::vector<double>(sum.begin(), sum.end()), expected);
    }
  }
}

TEST_F(MainGradTest, ExactFactorUndoesTheLossScale) {
  MainGrad grad(Tensor::Zeros({1}, DType::kFloat64, *device_),
                Tensor::Zeros({1}, DType::kFloat64, *device_));
  grad.set_factor(1.0 / 1024);
  grad.Add(Make({1024}));
  EXPECT_EQ(grad.hi().ToHost<double>()[0], 1.0);
}

using MainGradDeathTest = MainGradTest;

TEST_F(MainGradDeathTest, MoreContributionsThanUses) {
  MainGrad grad(Tensor::Zeros({1}, DType::kFloat32, *device_));
  EXPECT_DEATH(grad.NoteContribution(), "more gradient contributions than uses");
}

}  // namespace
}  // namespace cairn
