// Every fault at every file operation of every rank of a save, its commit and its retention.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "points_testing.h"

namespace cairn::faults {
namespace {

class PointsTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(PointsTest, EveryFaultAtEveryOperation) {
  Points points(GetParam());
  const std::vector<Plan> plans = points.All();
  for (const Plan& plan : plans) {
    for (const std::string& problem : points.Inject(plan)) {
      ADD_FAILURE() << Describe(plan, points.shared().report) << ": " << problem;
    }
  }
  fmt::print("{} points\n", plans.size());
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

INSTANTIATE_TEST_SUITE_P(Scenarios, PointsTest, ::testing::ValuesIn(Scenarios()),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::erase_if(name, [](char c) { return std::isalpha(c) == 0; });
                           return name;
                         });

}  // namespace
}  // namespace cairn::faults
