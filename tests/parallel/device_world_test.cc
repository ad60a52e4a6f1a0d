#include "parallel/device_world.h"

#include <gtest/gtest.h>

#include <array>

#include "parallel/local_communicator.h"

namespace cairn {
namespace {

TEST(DeviceWorldTest, SharedGpusAreNamed) {
  using Places = std::vector<DevicePlace>;
  EXPECT_EQ(DescribeSharing(Places{{"a", "0000:01"}}), "");
  EXPECT_EQ(DescribeSharing(Places{{"a", "0000:01"}, {"a", "0000:02"}, {"b", "0000:01"}}), "");
  EXPECT_EQ(DescribeSharing(Places{{"a", "0000:01"}, {"a", "0000:02"}, {"a", "0000:01"}}),
            "ranks 0 and 2 share 0000:01 of a");
}

TEST(DeviceWorldTest, TheCpusTensorsNeedNoOther) {
  RunLocalRanks(2, [](Communicator& host) {
    const auto device = NewCpuDevice();
    EXPECT_EQ(NewDeviceWorld(host, *device), nullptr);
  });
}

}  // namespace
}  // namespace cairn
