#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <cmath>
#include <memory>
#include <vector>

#include "fake_training_testing.h"
#include "parallel/nccl_communicator.h"
#include "runtime/base/error.h"
#include "runtime/device/cuda_device.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::StartsWith;

// What the checker says of a rank that does `body`.
std::vector<std::string> ProblemsOf(const std::function<void(Device&)>& body) {
  const FakeOutcome outcome = RunOnFakes(1, [&](Communicator&, Device& device) { body(device); });
  EXPECT_EQ(outcome.error, "");
  return outcome.problems;
}

Tensor NewFloats(Device& device) { return Tensor::Empty({64}, DType::kFloat32, device); }

Tensor FromValues(const std::vector<float>& values, Device& device) {
  return Tensor::FromHost<float>(values, {static_cast<int64_t>(values.size())}, device);
}

TEST(CheckerTest, AReadOnAnotherStreamNeedsAnEvent) {
  for (const bool ordered : {true, false}) {
    const auto problems = ProblemsOf([&](Device& device) {
      const std::unique_ptr<Stream> side = device.NewStream("side");
      const Tensor from = NewFloats(device);
      const Tensor to = NewFloats(device);
      Fill(from, 1.0);
      if (ordered) side->Wait(device.compute_stream().Record());
      device.Copy(to.raw(), from.raw(), from.bytes(), *side);
      side->Synchronize();
    });
    if (ordered) {
      EXPECT_THAT(problems, IsEmpty());
    } else {
      EXPECT_THAT(problems, ElementsAre(AllOf(StartsWith("race: the read of a copy"),
                                              HasSubstr("FillKernel<float>"))));
    }
  }
}

TEST(CheckerTest, AnEventRecordedTooEarlyOrdersNothing) {
  EXPECT_THAT(ProblemsOf([](Device& device) {
                const std::unique_ptr<Stream> side = device.NewStream("side");
                const Tensor from = NewFloats(device);
                const Tensor to = NewFloats(device);
                const Event early = device.compute_stream().Record();
                FillZero(from);
                side->Wait(early);
                device.Copy(to.raw(), from.raw(), from.bytes(), *side);
                side->Synchronize();
              }),
              ElementsAre(StartsWith("race")));
}

TEST(CheckerTest, MemoryIsHandedOutAgainInTheOrderOfTheComputeStream) {
  for (const bool waited : {true, false}) {
    const auto problems = ProblemsOf([&](Device& device) {
      const std::unique_ptr<Stream> side = device.NewStream("side");
      const Tensor to = NewFloats(device);
      {
        const Tensor from = NewFloats(device);
        FillZero(from);
        side->Wait(device.compute_stream().Record());
        device.Copy(to.raw(), from.raw(), from.bytes(), *side);
        if (waited) side->Synchronize();
      }
      FillZero(NewFloats(device));  // the block of `from`
      side->Synchronize();
    });
    if (waited) {
      EXPECT_THAT(problems, IsEmpty());
    } else {
      EXPECT_THAT(problems, ElementsAre(StartsWith("race: the write of cudaMemsetAsync")));
    }
  }
}

TEST(CheckerTest, WhatIsCopiedToTheHostArrivesWhenItIsWaitedFor) {
  EXPECT_THAT(ProblemsOf([](Device& device) {
                const Tensor from = FromValues({1.0f}, device);
                float value = 0;
                device.Copy(&value, from.raw(), sizeof(value), device.compute_stream());
                EXPECT_TRUE(std::isnan(value));
                device.compute_stream().Synchronize();
                EXPECT_EQ(value, 1.0f);
              }),
              IsEmpty());
}

TEST(CheckerTest, MisusedHandles) {
  EXPECT_THAT(ProblemsOf([](Device& device) {
                auto stream = device.NewStream("side");
                const cudaStream_t native = NativeStream(*stream);
                cudaEvent_t event = nullptr;
                (void)cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
                (void)cudaStreamWaitEvent(native, event, 0);
                (void)cudaEventDestroy(event);
                (void)cudaEventRecord(event, native);
                stream.reset();
                (void)cudaStreamSynchronize(native);
                const Tensor tensor = NewFloats(device);
                (void)cudaMemsetAsync(tensor.raw(), 0, 1024, NativeStream(device.compute_stream()));
              }),
              ElementsAre("cudaStreamWaitEvent for an event that was never recorded",
                          "cudaEventRecord with an event that was destroyed",
                          "cudaStreamSynchronize with a stream that was destroyed",
                          HasSubstr("goes 768 bytes past the end of its memory")));
}

TEST(CheckerTest, AKernelThatIsGivenTheHostsMemory) {
  EXPECT_THAT(
      ProblemsOf([](Device& device) {
        const Tensor tensor = NewFloats(device);
        Fill(tensor, 1.0);
        (void)cudaStreamSynchronize(NativeStream(device.compute_stream()));
        device.allocator().ReleaseCache();  // not the tensor, which is in use
        (void)cudaFree(tensor.raw());
        Fill(tensor, 1.0);
      }),
      Contains(HasSubstr("FillKernel<float> on stream 0 of cuda:0 uses memory that is not")));
}

TEST(CheckerTest, WhatIsNotGivenBack) {
  fake::Begin(1);
  {
    const fake::RankScope scope(0);
    cudaStream_t stream = nullptr;
    cudaEvent_t event = nullptr;
    void* memory = nullptr;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    (void)cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    (void)cudaMalloc(&memory, 64);
    (void)cudaHostAlloc(&memory, 64, cudaHostAllocDefault);
    float value = 0;
    (void)cudaMemcpyAsync(&value, memory, sizeof(value), cudaMemcpyDefault, stream);
  }
  EXPECT_THAT(
      fake::End(),
      IsSupersetOf({"stream 0 of cuda:0 was never destroyed", "64 bytes of cuda:0 were never freed",
                    "64 bytes of pinned memory were never freed", "1 events were never destroyed",
                    "no host waited for a copy on stream 0 of cuda:0"}));
}

// What goes wrong between two ranks, whose world is NCCL's.
std::vector<std::string> ProblemsOfTwo(
    const std::function<void(Communicator& world, Device&)>& body) {
  const FakeOutcome outcome = RunOnFakes(2, body);
  EXPECT_NE(outcome.error, "");
  return outcome.problems;
}

TEST(NcclCheckerTest, RanksThatCallDifferentThings) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device) {
                const Tensor tensor = NewFloats(device);
                if (world.rank() == 0) {
                  world.AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                } else {
                  world.Broadcast(tensor, 0, device.compute_stream());
                }
                device.compute_stream().Synchronize();
              }),
              ElementsAre(AllOf(HasSubstr("world, call 0"), HasSubstr("AllReduce(64 x type 7"),
                                HasSubstr("Broadcast(64 x type 7, root 0)"))));
}

TEST(NcclCheckerTest, CommunicatorsInDifferentOrder) {
  for (const bool connected : {false, true}) {
    EXPECT_THAT(ProblemsOfTwo([&](Communicator& world, Device& device) {
                  const auto a = world.Split(0, world.rank(), "a");
                  const auto b = world.Split(0, world.rank(), "b");
                  const Tensor tensor = NewFloats(device);
                  const auto reduce = [&](Communicator& group) {
                    group.AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                  };
                  if (connected) {
                    reduce(*a);
                    reduce(*b);
                  }
                  reduce(world.rank() == 0 ? *a : *b);
                  reduce(world.rank() == 0 ? *b : *a);
                  device.compute_stream().Synchronize();
                }),
                ElementsAre(AllOf(
                    StartsWith("deadlock"), HasSubstr("the host of rank 0 waits in"),
                    HasSubstr("stream 0 of cuda:1 with AllReduce on part 2 (color 0) of world"))));
  }
}

TEST(NcclCheckerTest, AMessageThatIsNeverSent) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device) {
                const Tensor tensor = NewFloats(device);
                for (int i = 0; i < 2; ++i) {
                  if (world.rank() == 1) world.Recv(tensor, 0, device.compute_stream());
                  if (world.rank() == 0 && i == 0) world.Send(tensor, 1, device.compute_stream());
                }
                device.compute_stream().Synchronize();
              }),
              ElementsAre(AllOf(
                  StartsWith("deadlock"), HasSubstr("Recv from 0 on world"),
                  HasSubstr("part 0 of a message 0->1 of 64 x type 7, which nobody has called"))));
}

TEST(NcclCheckerTest, AMessageOfAnotherSize) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device) {
                const Tensor tensor = NewFloats(device);
                if (world.rank() == 1) world.Recv(tensor, 0, device.compute_stream());
                if (world.rank() == 0) {
                  world.Send(tensor.Narrow(0, 0, 32), 1, device.compute_stream());
                }
                device.compute_stream().Synchronize();
              }),
              ElementsAre(HasSubstr("a message 0->1 of")));
}

TEST(NcclCheckerTest, ARankThatEndsWhileAnotherWaitsForIt) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device) {
                const Tensor tensor = NewFloats(device);
                world.AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                if (world.rank() == 0) throw Error(ErrorKind::kData, "rank 0", "has had enough");
                world.AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                device.compute_stream().Synchronize();
              }),
              IsEmpty());  // it aborts its communicator, which ends what the other waits for
}

TEST(NcclCheckerTest, EveryVerbMovesItsData) {
  const FakeOutcome outcome = RunOnFakes(2, [](Communicator& world, Device& device) {
    Stream& stream = device.compute_stream();
    const auto r = static_cast<float>(world.rank());
    const Tensor pair = FromValues({r, 10 + r}, device);
    const Tensor sum = Tensor::Empty({1}, DType::kFloat32, device);
    world.ReduceScatter(sum, pair, stream);
    EXPECT_THAT(sum.ToHost<float>(), ElementsAre(world.rank() == 0 ? 1.0f : 21.0f));
    const Tensor both = NewFloats(device).Narrow(0, 0, 2);
    world.AllGather(both, sum, stream);
    EXPECT_THAT(both.ToHost<float>(), ElementsAre(1.0f, 21.0f));
    world.AllToAll(both, pair, stream);
    EXPECT_THAT(both.ToHost<float>(), ElementsAre(10 * r, 10 * r + 1));
    world.Broadcast(both, 1, stream);
    world.AllReduce(both, ReduceOp::kMax, stream);
    EXPECT_THAT(both.ToHost<float>(), ElementsAre(10.0f, 11.0f));
    // Both ways at once.
    const Tensor received = Tensor::Empty({2}, DType::kFloat32, device);
    if (world.rank() == 0) world.Send(pair, 1, stream);
    if (world.rank() == 1) world.Recv(received, 0, stream);
    if (world.rank() == 1) {
      EXPECT_THAT(received.ToHost<float>(), ElementsAre(0.0f, 10.0f));
    }
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

}  // namespace
}  // namespace cairn::testing
