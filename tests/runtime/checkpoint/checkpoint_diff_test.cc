#include "runtime/checkpoint/checkpoint_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Two checkpoints, of different tilings, that stay open.
class Pair {
 public:
  Pair(const std::vector<WholeTensor>& a, const std::vector<WholeTensor>& b,
       const Manifest& description_b = {})
      : a_(WriteTiledCheckpoint(folder_ / "a", {}, a, 5, 2, 1)),
        b_(WriteTiledCheckpoint(folder_ / "b", description_b, b, 3, 3, 2)) {}

  CheckpointDiff Compare(const Tolerance& tolerance = {}, bool with_state = true) {
    return CompareCheckpoints(a_, b_, tolerance, with_state, [](const auto&) { return true; });
  }

 private:
  TemporaryFolder folder_;
  CheckpointReader a_;
  CheckpointReader b_;
};

WholeTensor Floats(const std::vector<float>& values, const std::vector<int64_t>& shape) {
  return {"t", "weight", "F32", shape, BytesOf(values)};
}

TEST(CheckpointDiffTest, TheSameContentInTwoLayoutsDoesNotDiffer) {
  const std::vector<WholeTensor> tensors = {Floats(Values(42, 1), {6, 7}),
                                            {"s", "exp_avg", "F16", {}, "ab"},
                                            {"c", "weight", "C64", {2}, std::string(16, 'x')}};
  Pair pair(tensors, tensors);
  const CheckpointDiff diff = pair.Compare();
  EXPECT_FALSE(diff.Differs());
  EXPECT_EQ(diff.compared, 3U);
  EXPECT_THAT(diff.tensors, IsEmpty());
}

TEST(CheckpointDiffTest, FindsWhatIsNotInBothOrIsUnlike) {
  Manifest description;
  description.iteration = 5;
  description.training_state.loss_scale = 2;
  const std::string four(4, '\0');
  Pair pair({{"a", "weight", "F32", {1}, four},
             {"b", "weight", "F32", {1}, four},
             {"c", "weight", "F32", {1}, four}},
            {{"b", "exp_avg", "F32", {1}, four},
             {"b", "weight", "I32", {1}, four},
             {"c", "weight", "F32", {1, 1}, four}},
            description);
  const CheckpointDiff diff = pair.Compare();
  EXPECT_TRUE(diff.Differs());
  ASSERT_THAT(diff.only_in_a, SizeIs(1));
  EXPECT_EQ(diff.only_in_a[0]->name, "a");
  ASSERT_THAT(diff.only_in_b, SizeIs(1));
  EXPECT_EQ(diff.only_in_b[0]->kind, "exp_avg");
  ASSERT_THAT(diff.unlike, SizeIs(2));
  EXPECT_EQ(diff.unlike[0].second->dtype, "I32");
  ASSERT_THAT(diff.state, SizeIs(2));
  EXPECT_STREQ(diff.state[0].a.name, "iteration");
  EXPECT_STREQ(diff.state[1].b.name, "loss_scale");
  EXPECT_EQ(diff.compared, 0U);
  EXPECT_THAT(pair.Compare({}, false).state, IsEmpty());
}

TEST(CheckpointDiffTest, LocatesAndMeasuresDifferences) {
  std::vector<float> values = Values(42, 0);
  const WholeTensor before = Floats(values, {6, 7});
  values[10] = std::nextafter(values[10], 100.0F);  // 10 -> 10 + 2^-20
  values[30] = 60;
  Pair pair({before}, {Floats(values, {6, 7})});
  const CheckpointDiff diff = pair.Compare();
  ASSERT_THAT(diff.tensors, SizeIs(1));
  const TensorDiff& tensor = diff.tensors[0];
  EXPECT_EQ(tensor.differing, 2U);
  EXPECT_EQ(tensor.beyond, 2U);
  EXPECT_EQ(tensor.max_absolute, 30);
  EXPECT_EQ(tensor.max_relative, 0.5);
  EXPECT_EQ(tensor.max_ulp, 1 << 23);
  EXPECT_THAT(tensor.first, ElementsAre(1, 3));
  EXPECT_EQ(std::get<float>(tensor.first_a), 10);
  EXPECT_EQ(std::get<float>(tensor.first_b), values[10]);
  const CheckpointDiff near = pair.Compare({.bitwise = false, .absolute = 1e-3});
  EXPECT_EQ(near.tensors[0].beyond, 1U);
  EXPECT_THAT(near.tensors[0].first, ElementsAre(4, 2));
}

struct ToleranceCase {
  float a;
  float b;
  Tolerance tolerance;
  bool passes;
};

TEST(CheckpointDiffTest, TolerancesLetPassWhatTheySay) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto infinity = static_cast<float>(kInfinity);
  const float largest = std::numeric_limits<float>::max();
  const Tolerance none = {.bitwise = false};
  const Tolerance everything = {
      .bitwise = false, .absolute = kInfinity, .relative = 1, .ulp = ~uint64_t{0}};
  const std::vector<ToleranceCase> cases = {
      {1, 1.5F, {.bitwise = false, .absolute = 0.5}, true},
      {1, 1.5F, {.bitwise = false, .absolute = 0.49}, false},
      {-1, 1, {.bitwise = false, .absolute = 1.9}, false},
      {2, 3, {.bitwise = false, .relative = 0.34}, true},  // of the larger
      {3, 2, {.bitwise = false, .relative = 0.34}, true},
      {2, 3, {.bitwise = false, .relative = 0.33}, false},
      {2, 3, {.bitwise = false, .absolute = 0.5, .relative = 0.17}, true},
      {1, std::nextafter(1.0F, 2.0F), {.bitwise = false, .ulp = 1}, true},
      {1, std::nextafter(1.0F, 2.0F), none, false},
      {0, -0.0F, {}, false},
      {0, -0.0F, none, true},
      {nan, -nan, {}, false},
      {nan, -nan, none, true},
      {nan, 1, everything, false},
      {infinity, -infinity, everything, false},
      {infinity, largest, everything, false},
      {-largest, largest, everything, true},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const ToleranceCase& c = cases[i];
    Pair pair({Floats({c.a}, {1})}, {Floats({c.b}, {1})});
    EXPECT_EQ(pair.Compare(c.tolerance).Differs(), !c.passes) << i;
  }
}

TEST(CheckpointDiffTest, OneSidedNaNsAreInfinitelyFarAndEqualOnesAreEqual) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Pair pair({Floats({nan, 1, nan}, {3})}, {Floats({nan, nan, nan}, {3})});
  const CheckpointDiff diff = pair.Compare();
  ASSERT_THAT(diff.tensors, SizeIs(1));
  EXPECT_EQ(diff.tensors[0].differing, 1U);
  EXPECT_EQ(diff.tensors[0].max_absolute, kInfinity);
  EXPECT_EQ(diff.tensors[0].max_ulp, kInfinity);
}

TEST(CheckpointDiffTest, DtypesThatAreNoNumbersAreComparedByTheirBits) {
  std::string bytes(16, 'x');
  const WholeTensor before = {"c", "weight", "C64", {2}, bytes};
  bytes[9] = 'y';
  Pair pair({before}, {{"c", "weight", "C64", {2}, bytes}});
  const CheckpointDiff diff = pair.Compare({.bitwise = false, .absolute = 1e9});
  ASSERT_THAT(diff.tensors, SizeIs(1));
  EXPECT_EQ(diff.tensors[0].beyond, 1U);
  EXPECT_THAT(diff.tensors[0].first, ElementsAre(1));
}

}  // namespace
}  // namespace cairn
