#include "parallel/pipeline/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/parallel/pipeline/schedules_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(TimelineJson, HasATrackPerRankAndASlicePerAction) {
  EXPECT_EQ(TimelineJson(Simulate(MakeSchedule("1f1b", 1, 1, 1))),
            R"({"traceEvents":[
{"name":"thread_name","ph":"M","pid":0,"tid":0,"args":{"name":"rank 0"}},
{"name":"F0","cat":"forward","ph":"X","pid":0,"tid":0,"ts":0,"dur":1,"args":{"microbatch":0,"chunk":0}},
{"name":"B0","cat":"backward","ph":"X","pid":0,"tid":0,"ts":1,"dur":2,"args":{"microbatch":0,"chunk":0}}
]}
)");
  const std::string json = TimelineJson(Simulate(testing::ZeroBubbleByHand()));
  EXPECT_EQ(Count(json, R"("thread_name")"), 2);
  EXPECT_EQ(Count(json, R"("cat":"backward_weight")"), 6);
}

TEST(TimelineSvg, DrawsEveryActionInTheRowOfItsRank) {
  const std::string svg = TimelineSvg(Simulate(testing::InterleavedByHand()));
  EXPECT_EQ(Count(svg, "<rect "), 32);
  EXPECT_EQ(Count(svg, "<title>rank 1: "), 16);
  EXPECT_EQ(Count(svg, "fill-opacity=\"0.55\""), 16) << "the second chunk is paler";
  EXPECT_THAT(svg, HasSubstr("viewBox=\"0 0 1560 44\""));
  EXPECT_THAT(svg, HasSubstr("<rect x=\"60.00\" y=\"1\""));
  EXPECT_EQ(Count(svg, "<text"), Count(svg, "</text>"));
}

TEST(TimelineSvg, LeavesOutLabelsWithoutRoom) {
  const std::string svg = TimelineSvg(Simulate(MakeSchedule("gpipe", 1, 1, 1000)));
  EXPECT_EQ(Count(svg, "<rect "), 2000);
  EXPECT_EQ(Count(svg, "<text"), 1) << "only the rank's";
}

TEST(Timeline, OfNothingIsStillWellFormed) {
  EXPECT_EQ(TimelineJson({}), "{\"traceEvents\":[\n]}\n");
  EXPECT_THAT(TimelineSvg({}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace cairn
