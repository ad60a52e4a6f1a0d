#include "launcher/loss_anomaly_count.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(LossAnomalyCountTest, CountsThoseThatFollowEachOther) {
  LossAnomalyCount skips(1);
  EXPECT_EQ(skips.Add(7), 1);
  EXPECT_EQ(skips.Add(8), 2);
  EXPECT_EQ(skips.Add(9), 3);
  EXPECT_EQ(skips.Add(11), 1);  // 10 was good
}

TEST(LossAnomalyCountTest, ARewindMustGetAwayFromTheLastOne) {
  LossAnomalyCount rewinds(10);
  EXPECT_EQ(rewinds.Add(30), 1);
  EXPECT_EQ(rewinds.Add(22), 2);  // on the way back to 30
  EXPECT_EQ(rewinds.Add(32), 3);
  EXPECT_EQ(rewinds.Add(43), 1);
}

}  // namespace
}  // namespace cairn
