#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../launcher/layouts/checkpoint_runs_testing.h"
#include "fake_training_testing.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/base/error.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Tensor NewFloats(Device& device) { return Tensor::Empty({64}, DType::kFloat32, device); }

TEST(NcclGraphTest, EachLaunchCommunicatesAgain) {
  const FakeOutcome outcome = RunOnFakes(2, [](Communicator& world, Device& device) {
    Stream& stream = device.compute_stream();
    const auto other = 1 - world.rank();
    const Tensor sum = Tensor::FromHost<float>(std::vector<float>{1.0f}, {1}, device);
    const Tensor sent = Tensor::FromHost<float>(std::vector<float>(1, 5.0f + other), {1}, device);
    const Tensor received = Tensor::FromHost<float>(std::vector<float>{0.0f}, {1}, device);
    const auto work = [&] {
      world.AllReduce(sum, ReduceOp::kSum, stream);
      if (world.rank() == 0) world.Send(sent, 1, stream);
      if (world.rank() == 1) world.Recv(received, 0, stream);
    };
    work();  // connects
    const auto replay = device.Capture(work);
    EXPECT_THAT(sum.ToHost<float>(), ElementsAre(2.0f));
    FillZero(received);
    for (const float expected : {4.0f, 8.0f}) {
      replay->Launch(0);
      EXPECT_THAT(sum.ToHost<float>(), ElementsAre(expected));
      EXPECT_THAT(received.ToHost<float>(), ElementsAre(world.rank() == 1 ? 6.0f : 0.0f));
    }
    work();  // and beside it
    EXPECT_THAT(sum.ToHost<float>(), ElementsAre(16.0f));
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

// Who only sends may be far ahead of the receiver: a recording keeps few tensors for that all the
// same, and their memory is written again no sooner than they have arrived. A receiver keeps none.
TEST(NcclGraphTest, MemoryOfMessages) {
  std::array<std::set<const void*>, 2> memory;
  const FakeOutcome outcome = RunOnFakes(2, [&](Communicator& world, Device& device) {
    Stream& stream = device.compute_stream();
    const auto work = [&] {
      for (int i = 0; i < 100; ++i) {
        const Tensor tensor = NewFloats(device);
        memory[world.rank()].insert(tensor.raw());
        if (world.rank() == 0) {
          FillZero(tensor);
          world.Send(tensor, 1, stream);
        } else {
          world.Recv(tensor, 0, stream);
        }
      }
    };
    work();
    stream.Synchronize();
    memory[world.rank()].clear();
    for (int recording = 0; recording < 2; ++recording) {
      const auto replay = device.Capture(work);
      for (int i = 0; i < 3; ++i) replay->Launch(0);
    }
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
  EXPECT_GT(memory[0].size(), 2u);
  EXPECT_LE(memory[0].size(), 10u);
  EXPECT_LE(memory[1].size(), 2u);
}

// As the allocator does where a recording finds the GPU full: what runs beside it is waited for.
TEST(NcclGraphTest, MemoryGivenBackToTheGpuWhileItRecords) {
  std::atomic<bool> called = false;
  const FakeOutcome outcome = RunOnFakes(2, [&](Communicator& world, Device& device) {
    Stream& stream = device.compute_stream();
    const Tensor tensor = NewFloats(device);
    world.AllReduce(tensor, ReduceOp::kSum, stream);  // connects
    if (world.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      called = true;
    }
    world.AllReduce(tensor, ReduceOp::kSum, stream);
    if (world.rank() == 1) return;
    void* memory = nullptr;
    (void)cudaMalloc(&memory, 64);
    const auto replay = device.Capture([&] {
      FillZero(tensor);
      (void)cudaFree(memory);
      EXPECT_TRUE(called);
    });
    replay->Launch(0);
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

// What two ranks do with their recordings, and what is wrong with that.
std::vector<std::string> ProblemsOfTwo(
    const std::function<void(Communicator& world, Device&, const Tensor&)>& body) {
  return RunOnFakes(2,
                    [&](Communicator& world, Device& device) {
                      const Tensor tensor = NewFloats(device);
                      body(world, device, tensor);
                    })
      .problems;
}

TEST(NcclGraphTest, WhatMayNotBeRecorded) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device, const Tensor& tensor) {
                const auto replay = device.Capture(
                    [&] { world.AllReduce(tensor, ReduceOp::kSum, device.compute_stream()); });
              }),
              ElementsAre("AllReduce on world in a capture, the first: its peers connect"));
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device, const Tensor& tensor) {
                world.AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                const auto replay = device.Capture([&] {
                  if (world.rank() == 0) {
                    world.AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                  } else {
                    world.Broadcast(tensor, 0, device.compute_stream());
                  }
                });
              }),
              Contains(AllOf(HasSubstr("calls AllReduce(64"), HasSubstr("calls Broadcast(64"))));
}

TEST(NcclGraphTest, ARankThatDoesNotLaunch) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device, const Tensor& tensor) {
                Stream& stream = device.compute_stream();
                world.AllReduce(tensor, ReduceOp::kSum, stream);
                const auto replay =
                    device.Capture([&] { world.AllReduce(tensor, ReduceOp::kSum, stream); });
                if (world.rank() == 0) replay->Launch(0);
                stream.Synchronize();
              }),
              ElementsAre(AllOf(StartsWith("deadlock"), HasSubstr("AllReduce on world"),
                                HasSubstr("which nobody has called"))));
}

TEST(NcclGraphTest, ACommunicatorThatDiesBeforeAGraph) {
  EXPECT_THAT(ProblemsOfTwo([](Communicator& world, Device& device, const Tensor& tensor) {
                auto part = world.Split(0, world.rank(), "part");
                part->AllReduce(tensor, ReduceOp::kSum, device.compute_stream());
                const auto replay = device.Capture(
                    [&] { part->AllReduce(tensor, ReduceOp::kSum, device.compute_stream()); });
                part.reset();
              }),
              Contains(HasSubstr("whose operations a graph holds")));
}

// A launch waits for operations of two communicators that the other rank never comes to, and whose
// aborts wait for it: the rank ends all the same.
TEST(NcclGraphTest, AnErrorAfterALaunch) {
  std::promise<void> ended;
  const auto body = [&](Communicator& world, Device& device) {
    const std::shared_ptr<void> at_end(nullptr, [&](void*) {
      if (world.rank() == 0) ended.set_value();
    });
    Stream& stream = device.compute_stream();
    const Tensor tensor = NewFloats(device);
    const auto part = world.Split(0, world.rank(), "part");
    const auto work = [&] {
      world.AllReduce(tensor, ReduceOp::kSum, stream);
      part->AllReduce(tensor, ReduceOp::kSum, stream);
    };
    work();
    const auto replay = device.Capture(work);
    if (world.rank() == 0) replay->Launch(0);
    if (world.rank() == 1) ended.get_future().wait();
    throw Error(ErrorKind::kData, "work", "has had enough");
  };
  const FakeOutcome outcome = RunOnFakes(2, body, {.tells_of_aborts = false});
  EXPECT_THAT(outcome.error, HasSubstr("has had enough"));
  EXPECT_THAT(outcome.problems, IsEmpty());
}

// Trains by graphs, all but the first step.
void ExpectCleanGraphs(FakeRun run) {
  run.graphs = true;
  ExpectClean(run);
  const int launches = run.steps - 1 + (run.save_into.empty() ? 0 : 2);
  for (int rank = 0; rank < run.layout.ranks(); ++rank) {
    EXPECT_EQ(fake::Calls(rank, "cudaGraphLaunch"), launches) << run.layout.Name();
  }
}

TEST(NcclGraphTest, TrainingInEveryScheduleAndLayout) {
  for (const std::string& schedule : ScheduleNames()) {
    for (const int ranks : {2, 4, 8}) {
      for (Layout layout : LayoutsOf(ranks)) {
        if (layout.tp > 2 || layout.dp > 2 || layout.pp > 4) continue;
        layout.schedule = schedule;
        layout.micro_batch_size = 1;
        ExpectCleanGraphs({.layout = layout, .steps = 3});
      }
    }
  }
}

// Far more microbatches than messages that a stage may have on their way.
TEST(NcclGraphTest, TrainingWithManyMicrobatches) {
  for (const std::string& schedule : ScheduleNames()) {
    FakeRun run{.layout = {.pp = 3, .micro_batch_size = 1, .schedule = schedule}, .steps = 3};
    run.size.global_batch = 24;
    ExpectCleanGraphs(run);
  }
}

TEST(NcclGraphTest, TwoOperationsOfNcclBesideEachOther) {
  for (const std::string& schedule : ScheduleNames()) {
    for (Layout layout : {Layout{.tp = 2, .pp = 2, .dp = 2, .zero = true, .micro_batch_size = 1},
                          Layout{.pp = 4, .dp = 2, .zero = true, .micro_batch_size = 1}}) {
      layout.schedule = schedule;
      for (unsigned seed = 0; seed < 3; ++seed) {
        ExpectCleanGraphs(
            {.layout = layout, .steps = 3, .behaviour = {.nccl_at_once = 2, .seed = seed}});
      }
    }
  }
}

// With evaluation, a save beside a step, a load, a step and a diagnosis.
TEST(NcclGraphTest, TrainingWithEveryOption) {
  const RunFolders folders;
  FakeRun base{.layout = {.tp = 2, .pp = 2, .dp = 2, .micro_batch_size = 1}, .steps = 3};
  base.save_into = folders / "run";
  for (FakeRun run : WithEveryOption(base)) {
    for (const fake::Answers answers : {fake::Answers::kLate, fake::Answers::kEarly}) {
      run.behaviour.answers = answers;
      ExpectCleanGraphs(run);
      folders.Remove("run");
    }
  }
}

TEST(NcclGraphTest, AnotherLossScaleIsRecordedAnewByAll) {
  FakeRun run{.layout = {.pp = 2, .dp = 2, .zero = true, .precision = "fp16"}, .steps = 7};
  run.size.loss_scale_window = 2;  // doubles after steps 2, 4 and 6
  ExpectCleanGraphs(run);
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(fake::Calls(rank, "cudaGraphInstantiate"), 4);
}

TEST(NcclGraphTest, RanksThatShareAGpuAreRefused) {
  const FakeOutcome outcome =
      TrainOnFakes({.layout = {.dp = 2}, .shared_gpu = true, .graphs = true});
  EXPECT_THAT(outcome.error, AllOf(HasSubstr("train.cuda_graphs"), HasSubstr("share a GPU")));
  EXPECT_THAT(outcome.problems, IsEmpty());
}

}  // namespace
}  // namespace cairn::testing
