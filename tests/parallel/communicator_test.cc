#include "parallel/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <limits>
#include <thread>

#include "parallel/local_communicator.h"
#include "parallel/reduction.h"
#include "runtime/base/error.h"
#include "tests/parallel/communicator_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Runs `body` and returns what it throws.
template <typename Body>
Error ErrorOf(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::kInternal, "", "");
}

Tensor Ones(Device& device, int64_t n) {
  return Tensor::FromHost<float>(std::vector<float>(n, 1.0F), {n}, device);
}

class LocalCommunicatorTest : public ::testing::TestWithParam<int> {};

TEST_P(LocalCommunicatorTest, EveryVerbEqualsTheSerialReference) {
  RunLocalRanks(GetParam(), [](Communicator& world) {
    const std::unique_ptr<Stream> stream = NewInlineStream();
    for (const DType dtype : testing::kAllDTypes) {
      for (const int64_t n : {0, 1, 5, 64, 2051}) {
        testing::CheckEveryVerb(world, *stream, dtype, n);
      }
    }
  });
}

TEST_P(LocalCommunicatorTest, EveryVerbOnWorkerStreams) {
  RunLocalRanks(GetParam(), [](Communicator& world) {
    const std::unique_ptr<Stream> stream = NewWorkerStream("comm");
    testing::CheckEveryVerb(world, *stream, DType::kFloat32, 4099);
  });
}

TEST_P(LocalCommunicatorTest, BytesOfAnySize) {
  RunLocalRanks(GetParam(), [](Communicator& world) {
    const std::vector<std::string> all = world.AllGatherBytes(std::string(world.rank(), 'x'));
    ASSERT_EQ(static_cast<int>(all.size()), world.size());
    for (int r = 0; r < world.size(); ++r) EXPECT_EQ(all[r], std::string(r, 'x'));
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, LocalCommunicatorTest, ::testing::Range(1, 10));

TEST(LocalCommunicator, SplitOrdersByKey) {
  RunLocalRanks(7, [](Communicator& world) {
    // Evens and odds, backwards; rank 6 stays out.
    const int color = world.rank() == 6 ? -1 : world.rank() % 2;
    const std::unique_ptr<Communicator> part = world.Split(color, -world.rank(), "part");
    if (world.rank() == 6) {
      EXPECT_EQ(part, nullptr);
      return;
    }
    EXPECT_EQ(part->name(), "part");
    EXPECT_EQ(part->recorder(), world.recorder());
    const auto members = part->AllGatherBytes(std::to_string(world.rank()));
    if (color == 0) {
      EXPECT_THAT(members, ElementsAre("4", "2", "0"));
    } else {
      EXPECT_THAT(members, ElementsAre("5", "3", "1"));
    }
    EXPECT_EQ(part->rank(), 2 - world.rank() / 2);
    const std::unique_ptr<Stream> stream = NewInlineStream();
    testing::CheckEveryVerb(*part, *stream, DType::kBFloat16, 33);
  });
}

TEST(LocalCommunicator, CountsTheTimeSpentWaiting) {
  RunLocalRanks(2, [](Communicator& world) {
    if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    world.Barrier();
    if (world.rank() == 0) {
      EXPECT_GE(world.wait_ns(), 10'000'000);
    }
  });
}

TEST(LocalCommunicatorFailure, TheFirstErrorIsRethrown) {
  const Error error = ErrorOf([] {
    RunLocalRanks(4, [](Communicator& world) {
      const std::unique_ptr<Communicator> part = world.Split(world.rank() / 2, 0, "part");
      if (world.rank() == 2) Throw(ErrorKind::kData, "shard 7", "damaged");
      world.Barrier();
    });
  });
  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_EQ(error.where(), "shard 7");
}

TEST(LocalCommunicatorFailure, OthersHearTheReason) {
  EXPECT_THROW(RunLocalRanks(
                   3,
                   [](Communicator& world) {
                     // Waits of three kinds end: a receive, and a verb of a part.
                     const auto part = world.Split(world.rank() / 2, 0, "part");
                     if (world.rank() == 2) throw std::runtime_error("lightning");
                     const std::unique_ptr<Device> device = NewCpuDevice();
                     const Error error = ErrorOf([&] {
                       if (world.rank() == 0) {
                         part->Recv(Ones(*device, 3), 1, device->compute_stream());
                       } else {
                         world.AllReduce(Ones(*device, 3), ReduceOp::kSum,
                                         device->compute_stream());
                       }
                     });
                     EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
                     EXPECT_EQ(error.message(), "rank 2 ended the communication: lightning");
                     // Nor does anything start afterwards.
                     EXPECT_THROW(world.Barrier(), Error);
                     EXPECT_THROW(world.Send(Ones(*device, 1), 1, device->compute_stream()), Error);
                   }),
               std::runtime_error);
}

TEST(LocalCommunicatorFailure, AbortFromAnyThreadEndsTheWait) {
  RunLocalRanks(2, [](Communicator& world) {
    if (world.rank() == 1) {
      EXPECT_THROW(world.Barrier(), Error);
      return;
    }
    std::jthread watchdog([&] { world.Abort("no progress"); });
    const std::unique_ptr<Device> device = NewCpuDevice();
    const Error error = ErrorOf([&] { world.Recv(Ones(*device, 1), 1, device->compute_stream()); });
    EXPECT_THAT(error.what(), HasSubstr("Recv on world: rank 0 ended the communication: no prog"));
  });
}

TEST(LocalCommunicatorFailure, AnErrorOfAWorkerStreamSurfacesAtSynchronize) {
  RunLocalRanks(2, [](Communicator& world) {
    if (world.rank() == 1) return world.Abort("stop");
    const std::unique_ptr<Device> device = NewCpuDevice();
    const std::unique_ptr<Stream> stream = device->NewStream("comm");
    world.AllReduce(Ones(*device, 8), ReduceOp::kSum, *stream);
    EXPECT_THROW(stream->Synchronize(), Error);
  });
}

TEST(LocalCommunicatorFailure, DifferentCallsAreNamedOnEveryRank) {
  using Call = std::function<void(Communicator&, Device&)>;
  const auto all_reduce = [](int64_t n, ReduceOp op) -> Call {
    return [=](Communicator& world, Device& device) {
      world.AllReduce(Ones(device, n), op, device.compute_stream());
    };
  };
  const std::vector<Call> odd_calls = {
      all_reduce(5, ReduceOp::kSum),
      all_reduce(4, ReduceOp::kMax),
      [](Communicator& world, Device&) { world.Barrier(); },
      [](Communicator& world, Device& device) {
        world.Broadcast(Ones(device, 4), 0, device.compute_stream());
      },
      [](Communicator& world, Device& device) {
        world.AllReduce(Tensor::Zeros({4}, DType::kInt32, device), ReduceOp::kSum,
                        device.compute_stream());
      },
  };
  for (const Call& odd : odd_calls) {
    RunLocalRanks(3, [&](Communicator& world) {
      const std::unique_ptr<Device> device = NewCpuDevice();
      const Call usual = all_reduce(4, ReduceOp::kSum);
      const Error error = ErrorOf([&] { (world.rank() == 2 ? odd : usual)(world, *device); });
      EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
      EXPECT_THAT(error.message(), HasSubstr("rank 0 AllReduce of 16 bytes of fp32"));
      EXPECT_THAT(error.message(), HasSubstr("rank 2 "));
      // The group is still good: nobody took part in what was refused.
      usual(world, *device);
    });
  }
}

TEST(LocalCommunicatorFailure, AnotherMessageThanExpected) {
  RunLocalRanks(2, [](Communicator& world) {
    const std::unique_ptr<Device> device = NewCpuDevice();
    Stream& stream = device->compute_stream();
    if (world.rank() == 0) {
      world.Send(Ones(*device, 3), 1, stream);
      world.Send(Ones(*device, 4), 1, stream);
    } else {
      const Error error = ErrorOf([&] { world.Recv(Ones(*device, 4), 0, stream); });
      EXPECT_THAT(error.message(), HasSubstr("rank 0 sent 12 bytes of fp32; rank 1 expects 16"));
      EXPECT_THROW(world.Recv(Tensor::Zeros({4}, DType::kInt32, *device), 0, stream), Error);
    }
  });
}

TEST(LocalCommunicatorFailure, NobodyWaitsForARankThatLeft) {
  RunLocalRanks(3, [](Communicator& world) {
    if (world.rank() == 2) return;
    const std::unique_ptr<Device> device = NewCpuDevice();
    EXPECT_THAT(ErrorOf([&] { world.Barrier(); }).message(), HasSubstr("rank 2 has left"));
    EXPECT_THAT(
        ErrorOf([&] { world.Recv(Ones(*device, 1), 2, device->compute_stream()); }).message(),
        HasSubstr("rank 2 has left"));
    // The two that stay still understand each other.
    Stream& stream = device->compute_stream();
    world.Send(Ones(*device, 2), 1 - world.rank(), stream);
    world.Recv(Ones(*device, 2), 1 - world.rank(), stream);
  });
}

TEST(LocalCommunicatorFailure, OperandsOfAnotherDeviceAreRefused) {
  RunLocalRanks(2, [](Communicator& world) {
    const std::unique_ptr<Device> meta = NewMetaDevice();
    const Tensor tensor = Tensor::Empty({2}, DType::kFloat32, *meta);
    const std::unique_ptr<Stream> stream = NewInlineStream();
    EXPECT_EQ(ErrorOf([&] { world.AllReduce(tensor, ReduceOp::kSum, *stream); }).kind(),
              ErrorKind::kDevice);
  });
}

TEST(SingleCommunicator, CopiesWhereInputAndOutputDiffer) {
  const std::unique_ptr<Communicator> single = NewSingleCommunicator("tp");
  EXPECT_EQ(single->name(), "tp");
  const std::unique_ptr<Stream> stream = NewInlineStream();
  for (const DType dtype : testing::kAllDTypes) testing::CheckEveryVerb(*single, *stream, dtype, 9);
  EXPECT_EQ(single->Split(-1, 0, "none"), nullptr);
  EXPECT_EQ(single->Split(3, 0, "some")->size(), 1);
  const std::unique_ptr<Device> device = NewCpuDevice();
  EXPECT_THROW(single->Send(Ones(*device, 1), 1, *stream), Error);
}

TEST(Reduction, SumsFromLeftToRightAndRoundsOnce) {
  // In fp32 from left to right: (1e8 + 1) - 1e8 = 0, while any other order gives 1.
  const std::vector<float> a = {1e8F};
  const std::vector<float> b = {1.0F};
  const std::vector<float> c = {-1e8F};
  const std::vector<const void*> sources = {a.data(), b.data(), c.data()};
  float sum = -1;
  ReduceInOrder(&sum, sources, 1, DType::kFloat32, ReduceOp::kSum);
  EXPECT_EQ(sum, 0.0F);
  // In bf16 1 + 2^-9 + 2^-9 rounds to 1 at each step, to 1 + 2^-8 (a tie, to even: 1) only at the
  // end; with a third term to 1 + 2^-7.
  const BFloat16 one(1.0F);
  const BFloat16 small(0x1p-9F);
  const std::vector<const void*> halves = {&one, &small, &small, &small};
  BFloat16 rounded;
  ReduceInOrder(&rounded, halves, 1, DType::kBFloat16, ReduceOp::kSum);
  EXPECT_EQ(static_cast<float>(rounded), 1.0F + 0x1p-7F);
}

TEST(Reduction, ANanAnywhereMakesTheMaximumNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::vector<float>& column :
       std::vector<std::vector<float>>{{nan, 1, 2}, {1, nan, 2}, {1, 2, nan}}) {
    const std::vector<const void*> sources = {&column[0], &column[1], &column[2]};
    float largest = 0;
    ReduceInOrder(&largest, sources, 1, DType::kFloat32, ReduceOp::kMax);
    EXPECT_TRUE(std::isnan(largest));
  }
}

}  // namespace
}  // namespace cairn
