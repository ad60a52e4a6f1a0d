#include "runtime/device/stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/base/error.h"

namespace cairn {
namespace {

TEST(InlineStreamTest, RunsAtOnceOnTheCaller) {
  const auto stream = NewInlineStream();
  std::thread::id thread;
  stream->Run([&] { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
  stream->Record().Synchronize();
  stream->Synchronize();
  EXPECT_THROW(stream->Run([] { throw std::runtime_error("now"); }), std::runtime_error);
}

TEST(InlineStreamTest, WaitsForAnotherStreamsEvent) {
  const auto worker = NewWorkerStream("worker");
  const auto inline_stream = NewInlineStream();
  std::promise<void> gate;
  std::atomic<bool> done = false;
  worker->Run([&] {
    gate.get_future().wait();
    done = true;
  });
  const Event event = worker->Record();
  EXPECT_FALSE(done);
  gate.set_value();
  inline_stream->Wait(event);
  EXPECT_TRUE(done);
}

TEST(WorkerStreamTest, KeepsTheOrderOnItsOwnThread) {
  const auto stream = NewWorkerStream("a name that is longer than fifteen characters");
  std::vector<int> order;
  std::thread::id thread;
  for (int i = 0; i < 1000; ++i) {
    stream->Run([&, i] {
      order.push_back(i);
      thread = std::this_thread::get_id();
    });
  }
  stream->Synchronize();
  std::vector<int> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(WorkerStreamTest, EventsOrderStreams) {
  const auto first = NewWorkerStream("first");
  const auto second = NewWorkerStream("second");
  int value = 0;  // handed from stream to stream by events alone
  for (int i = 0; i < 200; ++i) {
    first->Run([&] { value = value * 3 + 1; });
    second->Wait(first->Record());
    second->Run([&] { value = value % 1000 + 7; });
    first->Wait(second->Record());
  }
  first->Synchronize();
  int expected = 0;
  for (int i = 0; i < 200; ++i) expected = (expected * 3 + 1) % 1000 + 7;
  EXPECT_EQ(value, expected);
}

TEST(WorkerStreamTest, AnEventIsAPointNotTheEnd) {
  const auto stream = NewWorkerStream("stream");
  const Event early = stream->Record();
  std::promise<void> gate;
  stream->Run([&] { gate.get_future().wait(); });
  early.Synchronize();  // does not wait for the work given later
  const Event default_event;
  default_event.Synchronize();
  stream->Wait(default_event);
  gate.set_value();
  stream->Synchronize();
}

TEST(WorkerStreamTest, AnErrorDropsTheRestAndReachesEveryWait) {
  const auto stream = NewWorkerStream("stream");
  stream->Run([] {});
  const Event before = stream->Record();
  stream->Run([] { Throw(ErrorKind::kCommunication, "rank 3", "gone"); });
  bool ran = false;
  stream->Run([&] { ran = true; });
  const Event after = stream->Record();
  before.Synchronize();
  EXPECT_THROW(after.Synchronize(), Error);
  EXPECT_THROW(after.Synchronize(), Error) << "an event tells every waiter";
  EXPECT_THROW(stream->Synchronize(), Error);
  EXPECT_FALSE(ran);

  // A stream that waits for it fails alike, with the first error.
  const auto other = NewWorkerStream("other");
  other->Wait(after);
  other->Run([&] { ran = true; });
  try {
    other->Synchronize();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.where(), "rank 3");
  }
  EXPECT_FALSE(ran);
}

TEST(WorkerStreamTest, DestructionFinishesTheQueue) {
  int count = 0;
  {
    const auto stream = NewWorkerStream("stream");
    for (int i = 0; i < 100; ++i) stream->Run([&] { ++count; });
  }
  EXPECT_EQ(count, 100);
}

TEST(WorkerStreamTest, AnEventOutlivesItsStream) {
  Event event;
  {
    const auto stream = NewWorkerStream("stream");
    stream->Run([] { throw std::runtime_error("late"); });
    event = stream->Record();
  }
  EXPECT_THROW(event.Synchronize(), std::runtime_error);
}

TEST(WorkerStreamTest, WorkIsReleasedWhenDone) {
  const auto stream = NewWorkerStream("stream");
  const auto held = std::make_shared<int>(1);
  stream->Run([held] {});
  stream->Synchronize();
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace cairn
