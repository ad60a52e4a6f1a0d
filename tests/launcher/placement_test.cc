#include "launcher/placement.h"

#include <gtest/gtest.h>

#include <string>

namespace cairn {
namespace {

std::string Format(const std::vector<RankPlace>& places) { return FormatPlaces(places); }

TEST(PlacementTest, NeighboursShareAHost) {
  EXPECT_EQ(Format({{"a", 0, 4}}), "ranks 0 on a (local 0); 4 threads each");
  EXPECT_EQ(Format({{"a", 0, 1}, {"a", 1, 1}, {"b", 0, 1}, {"b", 1, 1}}),
            "ranks 0-1 on a (local 0-1), 2-3 on b (local 0-1); 1 thread each");
}

TEST(PlacementTest, ScatteredAndUnevenRanksAreVisible) {
  EXPECT_EQ(Format({{"a", 0, 2}, {"b", 0, 1}, {"a", 1, 2}, {"b", 0, 4}, {"a", 2, 2}}),
            "ranks 0,2,4 on a (local 0-2), 1,3 on b (local 0,0); 1 to 4 threads each");
}

TEST(PlacementTest, ManyHostsAreCounted) {
  std::vector<RankPlace> places;
  for (int host = 0; host < 100; ++host) {
    for (int local = 0; local < 8; ++local) {
      places.push_back({"n" + std::to_string(host), local, 6});
    }
  }
  const std::string text = Format(places);
  EXPECT_EQ(text.substr(0, 57), "ranks 0-7 on n0 (local 0-7), 8-15 on n1 (local 0-7), 16-2");
  EXPECT_EQ(text.substr(text.find(", and")), ", and so on over 100 hosts; 6 threads each");
}

}  // namespace
}  // namespace cairn
