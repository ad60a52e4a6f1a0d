#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../launcher/layouts/checkpoint_runs_testing.h"
#include "fake_training_testing.h"
#include "runtime/base/error.h"
#include "runtime/device/cuda_device.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// What the checker says of a rank that does `body`, and how that ends.
FakeOutcome OutcomeOf(const std::function<void(Device&)>& body) {
  return RunOnFakes(1, [&](Communicator&, Device& device) { body(device); });
}

Tensor NewFloats(Device& device) { return Tensor::Empty({64}, DType::kFloat32, device); }

TEST(GraphTest, NothingRunsBeforeALaunchAndAllOfItInEach) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    const Tensor from = Tensor::FromHost<float>(std::vector<float>{1.0f}, {1}, device);
    const Tensor to = Tensor::FromHost<float>(std::vector<float>{0.0f}, {1}, device);
    Stream& stream = device.compute_stream();
    const auto replay =
        device.Capture([&] { device.Copy(to.raw(), from.raw(), from.bytes(), stream); });
    EXPECT_THAT(to.ToHost<float>(), ElementsAre(0.0f));
    replay->Launch(0);
    EXPECT_THAT(to.ToHost<float>(), ElementsAre(1.0f));
    FillZero(to);
    replay->Launch(0);
    EXPECT_THAT(to.ToHost<float>(), ElementsAre(1.0f));
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

TEST(GraphTest, ItsMemoryIsNobodyElses) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    const void* inside = nullptr;
    auto replay = device.Capture([&] {
      const Tensor first = NewFloats(device);
      FillZero(first);
      inside = first.raw();
    });
    const Tensor other = NewFloats(device);
    EXPECT_NE(other.raw(), inside);
    replay.reset();
    EXPECT_EQ(NewFloats(device).raw(), inside);
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

TEST(GraphTest, ALaunchIsCheckedAgainstOtherStreams) {
  for (const bool ordered : {true, false}) {
    const FakeOutcome outcome = OutcomeOf([&](Device& device) {
      const std::unique_ptr<Stream> side = device.NewStream("side");
      const Tensor from = NewFloats(device);
      const Tensor to = NewFloats(device);
      const auto replay = device.Capture([&] { FillZero(from); });
      for (int step = 0; step < 2; ++step) {
        replay->Launch(0);
        side->Wait(device.compute_stream().Record());
        device.Copy(to.raw(), from.raw(), from.bytes(), *side);
        if (ordered) device.compute_stream().Wait(side->Record());
      }
      side->Synchronize();
      device.compute_stream().Synchronize();
    });
    EXPECT_EQ(outcome.error, "");
    if (ordered) {
      EXPECT_THAT(outcome.problems, IsEmpty());
    } else {
      EXPECT_THAT(outcome.problems, ElementsAre(StartsWith("race: the write of cudaMemsetAsync")));
    }
  }
}

// Copies `first` to `second`, and that to `third` on another stream.
struct Relay {
  explicit Relay(Device& device)
      : device(&device),
        first(Tensor::FromHost<float>(std::vector<float>{1.0f}, {1}, device)),
        second(Tensor::FromHost<float>(std::vector<float>{0.0f}, {1}, device)),
        third(Tensor::FromHost<float>(std::vector<float>{0.0f}, {1}, device)),
        side(device.NewStream("side")) {}

  void CopyOnCompute() const { Copy(second, first, device->compute_stream()); }
  void CopyOnSide() const { Copy(third, second, *side); }
  void CopyOnBoth() const {
    CopyOnCompute();
    side->Wait(device->compute_stream().Record());
    CopyOnSide();
  }
  void Copy(const Tensor& to, const Tensor& from, Stream& stream) const {
    device->Copy(to.raw(), from.raw(), from.bytes(), stream);
  }

  Device* device;
  Tensor first;
  Tensor second;
  Tensor third;
  std::unique_ptr<Stream> side;
};

TEST(GraphTest, AnEventDrawsAnotherStreamIn) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    const Relay relay(device);
    const auto replay = device.Capture([&] {
      relay.CopyOnBoth();
      EXPECT_EQ(AsCuda(device).RecordingStreams().size(), 1u);
    });
    EXPECT_TRUE(AsCuda(device).RecordingStreams().empty());
    EXPECT_THAT(relay.third.ToHost<float>(), ElementsAre(0.0f));
    for (int i = 0; i < 2; ++i) {
      FillZero(relay.third);
      replay->Launch(0);
      EXPECT_THAT(relay.third.ToHost<float>(), ElementsAre(1.0f));
    }
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

TEST(GraphTest, StreamsOfACaptureAreOrderedByEventsAlone) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    const Relay relay(device);
    const auto replay = device.Capture([&] {
      relay.side->Wait(device.compute_stream().Record());
      relay.CopyOnCompute();
      relay.CopyOnSide();
    });
    replay->Launch(0);
    device.compute_stream().Synchronize();
  });
  EXPECT_THAT(outcome.problems, ElementsAre(AllOf(StartsWith("race: the read of a copy"),
                                                  HasSubstr("a graph's branch of stream"))));
}

TEST(GraphTest, ALaunchComesAfterWhatItsStreamsWereGiven) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    const Relay relay(device);
    const auto replay = device.Capture([&] { relay.CopyOnBoth(); });
    relay.side->Wait(device.compute_stream().Record());
    relay.CopyOnSide();  // reads what the launch writes
    replay->Launch(0);
    device.compute_stream().Synchronize();
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

TEST(GraphTest, EventsOfAnEndedCaptureAndStreamsNotWaitedFor) {
  fake::Begin(1);
  {
    const fake::RankScope scope(0);
    cudaStream_t stream = nullptr;
    cudaStream_t side = nullptr;
    cudaEvent_t event = nullptr;
    cudaGraph_t graph = nullptr;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    (void)cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
    (void)cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
    (void)cudaEventRecord(event, stream);
    (void)cudaStreamWaitEvent(side, event, 0);
    EXPECT_NE(cudaStreamEndCapture(side, &graph), cudaSuccess);
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
    EXPECT_STREQ(cudaGetErrorString(cudaErrorStreamCaptureUnjoined),
                 "the capture has not waited for stream 1 of cuda:0");
    (void)cudaStreamWaitEvent(side, event, 0);
    (void)cudaStreamSynchronize(side);  // it records no more
    (void)cudaEventDestroy(event);
    (void)cudaStreamDestroy(side);
    (void)cudaStreamDestroy(stream);
  }
  EXPECT_THAT(
      fake::End(),
      ElementsAre("cudaStreamEndCapture of stream 1 of cuda:0, which does not record",
                  "stream 1 of cuda:0 waits for an event of a capture of stream 0 of cuda:0 that "
                  "has ended"));
}

TEST(GraphTest, WhatACaptureMayNotDo) {
  struct Case {
    std::function<void(Device&, Stream& side)> work;
    std::string problem;
  };
  std::optional<Event> before;
  std::optional<Event> inside;
  for (const Case& c : std::vector<Case>{
           {[](Device&device, Stream&) { device.compute_stream().Synchronize(); },
            "cudaStreamSynchronize while stream 0 of cuda:0 records"},
           {[](Device&device, Stream&) { NewFloats(device).ToHost<float>(); },
            "a copy from or to the host while stream 0 of cuda:0 records"},
           {[&](Device&device, Stream&) { device.compute_stream().Wait(*before); },
            "a capture of stream 0 of cuda:0 waits for an event of stream 1 of cuda:0 from "
            "outside"},
           {[](Device&device, Stream&side) {
              side.Wait(device.compute_stream().Record());
              side.Synchronize();
            },
            "cudaStreamSynchronize while stream 1 of cuda:0 records"},
           {[&](Device&device, Stream&) {
              inside = device.compute_stream().Record();
              HasHappened(*inside);
            },
            "cudaEventQuery with an event of a capture"},
           {[&](Device&device, Stream&) {
              inside = device.compute_stream().Record();
              inside->Synchronize();
            },
            "cudaEventSynchronize with an event of a capture"},
           {[](Device&device, Stream&) { device.Capture([] {}); },
            "cudaStreamBeginCapture while stream 0 of cuda:0 records"},
       }) {
    const FakeOutcome outcome = OutcomeOf([&](Device& device) {
      const std::unique_ptr<Stream> side = device.NewStream("side");
      before = side->Record();
      device.Capture([&] { c.work(device, *side); });
      before.reset();
    });
    before.reset();
    inside.reset();
    EXPECT_THAT(outcome.problems, ::testing::Contains(c.problem));
  }
}

TEST(GraphTest, WorkThatFailsLeavesNothingBehind) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    const std::unique_ptr<Stream> side = device.NewStream("side");
    EXPECT_THROW(device.Capture([&] {
      FillZero(NewFloats(device));
      side->Wait(device.compute_stream().Record());
      throw Error(ErrorKind::kData, "work", "has had enough");
    }),
                 Error);
    EXPECT_EQ(AsCuda(device).replayed_step(), nullptr);
    const Tensor tensor = NewFloats(device);
    Fill(tensor, 1.0);  // at once
    device.compute_stream().Synchronize();
    side->Synchronize();
  });
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.problems, IsEmpty());
}

TEST(GraphTest, MemoryThatALiveGraphUses) {
  const FakeOutcome outcome = OutcomeOf([](Device& device) {
    Tensor tensor = NewFloats(device);
    const auto replay = device.Capture([&] { FillZero(tensor); });
    tensor = Tensor();
    device.allocator().ReleaseCache();
  });
  EXPECT_THAT(outcome.problems, ElementsAre("cudaFree of memory that a graph uses"));
}

TEST(GraphTest, MisusedAndForgotten) {
  fake::Begin(1);
  {
    const fake::RankScope scope(0);
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    EXPECT_NE(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
    (void)cudaStreamEndCapture(stream, &graph);
    (void)cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphExecDestroy(exec);
    EXPECT_NE(cudaGraphLaunch(exec, stream), cudaSuccess);
    (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
  }
  EXPECT_THAT(fake::End(),
              ElementsAre("cudaStreamEndCapture of stream 0 of cuda:0, which does not record",
                          "cudaGraphLaunch of what is no graph, or no more",
                          "stream 0 of cuda:0 was never destroyed",
                          "the capture of stream 0 of cuda:0 was never ended",
                          "1 graphs were never destroyed"));
}

TEST(GraphTest, TrainingOfOneRank) {
  const RunFolders folders;
  for (const auto change : std::vector<void (*)(FakeRun&)>{
           [](FakeRun&) {},
           [](FakeRun& run) { run.layout.recompute = "full"; },
           [](FakeRun& run) { run.layout.recompute = "selective"; },
           [](FakeRun& run) { run.layout.deterministic = true; },
           [](FakeRun& run) { run.layout.precision = "bf16"; },
           [](FakeRun& run) { run.layout.precision = "fp16"; },
           [](FakeRun& run) { run.layout.schedule = "gpipe"; },
           [](FakeRun& run) { run.layout.zero = true; },
       }) {
    // Then evaluation, a save beside a step, a load, a step and a diagnosis.
    FakeRun run;
    run.steps = 5;
    run.save_into = folders / "run";
    run.graphs = true;
    change(run);
    SCOPED_TRACE(run.layout.Name());
    const FakeOutcome outcome = TrainOnFakes(run);
    EXPECT_THAT(outcome.problems, IsEmpty());
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(fake::Calls(0, "cudaGraphLaunch"), run.steps + 1);  // all but the first, two after
    EXPECT_EQ(fake::Calls(0, "cudaGraphInstantiate"), 1);
    folders.Remove("run");
  }
}

TEST(GraphTest, AnotherLossScaleIsRecordedAnew) {
  FakeRun run{.layout = {.precision = "fp16"}, .steps = 7, .graphs = true};
  run.size.loss_scale_window = 2;  // doubles after steps 2, 4 and 6
  const FakeOutcome outcome = TrainOnFakes(run);
  EXPECT_THAT(outcome.problems, IsEmpty());
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(fake::Calls(0, "cudaGraphLaunch"), 6);
  EXPECT_EQ(fake::Calls(0, "cudaGraphInstantiate"), 4);
}

TEST(GraphTest, AReplayedStepIsFewLaunches) {
  const auto launches = [](bool graphs, int steps) {
    EXPECT_EQ(TrainOnFakes({.layout = {}, .steps = steps, .graphs = graphs}).error, "");
    return fake::Calls(0, "cudaLaunchKernel");
  };
  const int64_t eager = launches(false, 4) - launches(false, 3);
  const int64_t replayed = launches(true, 4) - launches(true, 3);
  EXPECT_LT(replayed * 10, eager) << replayed << " of " << eager;
  EXPECT_GT(replayed, 0);  // loss, norm and optimizer
}

}  // namespace
}  // namespace cairn::testing
