#include "parallel/staged_communicator.h"

#include <gtest/gtest.h>

#include "parallel/local_communicator.h"
#include "tests/parallel/communicator_testing.h"

namespace cairn {
namespace {

// The CPU stands in for a GPU: copies to and from it are real, and so is everything behind them.
TEST(StagedCommunicatorTest, EveryVerbEqualsTheSerialReference) {
  for (const int ranks : {1, 2, 5}) {
    RunLocalRanks(ranks, [](Communicator& host) {
      const auto device = NewCpuDevice();
      const auto staged = NewStagedCommunicator(host, *device);
      for (const DType dtype : testing::kAllDTypes) {
        for (const int64_t n : {0, 5, 2051}) {
          testing::CheckEveryVerb(*staged, device->compute_stream(), dtype, n);
        }
      }
      const auto stream = device->NewStream("other");
      testing::CheckEveryVerb(*staged, *stream, DType::kFloat32, 64);
    });
  }
}

TEST(StagedCommunicatorTest, PartsAreStagedToo) {
  RunLocalRanks(5, [](Communicator& host) {
    const auto device = NewCpuDevice();
    const auto staged = NewStagedCommunicator(host, *device);
    const auto part = staged->Split(host.rank() == 4 ? -1 : host.rank() % 2, host.rank(), "part");
    ASSERT_EQ(part == nullptr, host.rank() == 4);
    if (part == nullptr) return;
    EXPECT_EQ(part->name(), "part");
    EXPECT_EQ(part->size(), 2);
    testing::CheckEveryVerb(*part, device->compute_stream(), DType::kBFloat16, 33);
  });
}

}  // namespace
}  // namespace cairn
