#include "runtime/telemetry/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

TEST(FlightRecorderTest, CountsCollectivesPerGroupAndMessagesPerPeer) {
  FlightRecorder recorder(4);
  const int dp = recorder.AddGroup("dp", {0, 4});
  const int pp = recorder.AddGroup("pp-forward", {4, 5, 6});
  recorder.SetIteration(7);
  { const FlightRecorder::Scope scope(recorder, dp, "AllReduce", 64); }
  { const FlightRecorder::Scope scope(recorder, dp, "AllGather", 8); }
  recorder.SetMicrobatch(2);
  { const FlightRecorder::Scope scope(recorder, pp, "Send", 16, 1); }
  { const FlightRecorder::Scope scope(recorder, pp, "Send", 16, 2); }
  { const FlightRecorder::Scope scope(recorder, pp, "Send", 16, 1); }
  const FlightRecorder::Scope scope(recorder, pp, "Recv", 16, 2);

  const FlightRecord record = recorder.Record();
  EXPECT_EQ(record.rank, 4);
  ASSERT_THAT(record.groups, SizeIs(2));
  EXPECT_EQ(record.groups[dp].collectives, 2);
  EXPECT_THAT(record.groups[pp].sends, ElementsAre(Pair(5, 2), Pair(6, 1)));
  EXPECT_THAT(record.groups[pp].receives, ElementsAre(Pair(6, 1)));
  ASSERT_THAT(record.operations, SizeIs(6));
  EXPECT_EQ(record.operations[1].verb, "AllGather");
  EXPECT_EQ(record.operations[1].sequence, 2);
  EXPECT_EQ(record.operations[1].iteration, 7);
  EXPECT_EQ(record.operations[1].microbatch, -1);
  EXPECT_FALSE(record.operations[1].running);
  EXPECT_EQ(record.operations[4].peer, 5);
  EXPECT_EQ(record.operations[4].sequence, 2);
  EXPECT_EQ(record.operations[4].microbatch, 2);
  ASSERT_NE(record.LongestRunning(), nullptr);
  EXPECT_EQ(record.LongestRunning()->verb, "Recv");
}

TEST(FlightRecorderTest, KeepsTheLastOperationsAndThoseThatRun) {
  FlightRecorder recorder(0);
  const int group = recorder.AddGroup("world", {0, 1});
  const FlightRecorder::Scope waits(recorder, group, "AllReduce", 1);
  for (int i = 0; i < 1000; ++i) {
    const FlightRecorder::Scope scope(recorder, group, "Barrier", 0);
  }
  const FlightRecord record = recorder.Record();
  EXPECT_LT(record.operations.size(), 500U);
  EXPECT_EQ(record.operations.front().verb, "AllReduce");
  EXPECT_TRUE(record.operations.front().running);
  EXPECT_EQ(record.operations.back().sequence, 1001);
  EXPECT_EQ(record.groups[group].collectives, 1001);
}

TEST(FlightRecorderTest, TheLongestWaitLeavesOutAGroupAndTimeBeforeAMoment) {
  using Clock = std::chrono::steady_clock;
  FlightRecorder recorder(0);
  const int slow = recorder.AddGroup("checkpoint", {0, 1});
  const int fast = recorder.AddGroup("tp", {0, 1});
  EXPECT_EQ(recorder.LongestWaitSeconds("", {}), 0);
  const FlightRecorder::Scope disk(recorder, slow, "AllGatherBytes", 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GE(recorder.LongestWaitSeconds("", {}), 0.02);
  EXPECT_EQ(recorder.LongestWaitSeconds("checkpoint", {}), 0);
  const FlightRecorder::Scope wait(recorder, fast, "AllReduce", 1);
  const double all = recorder.LongestWaitSeconds("", {});
  EXPECT_LT(recorder.LongestWaitSeconds("checkpoint", {}), all);
  EXPECT_LE(recorder.LongestWaitSeconds("", Clock::now() + std::chrono::hours(1)), 0);
}

TEST(FlightRecorderTest, WaitsOfTheTrainingThreadCount) {
  FlightRecorder recorder(0);
  std::thread([&] {
    const FlightRecorder::Wait wait(recorder);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }).join();
  EXPECT_EQ(recorder.wait_ns(), 0);
  {
    const FlightRecorder::Wait wait(recorder);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_GE(recorder.wait_ns(), 5'000'000);
}

TEST(FlightRecorderTest, JsonRoundTrip) {
  FlightRecorder recorder(1);
  const int group = recorder.AddGroup("pp-forward", {1, 3});
  { const FlightRecorder::Scope scope(recorder, group, "Send", 1 << 20, 1); }
  const FlightRecord record = recorder.Record();
  const std::string json = record.ToJson();
  const FlightRecord read = FlightRecord::FromJson(json, "f");
  EXPECT_EQ(read.ToJson(), json);
  EXPECT_EQ(read.operations[0].bytes, 1 << 20);
  EXPECT_EQ(read.FindGroup(record, 0), &read.groups[0]);
  FlightRecord other = record;
  other.groups[0].name = "tp";
  EXPECT_EQ(read.FindGroup(other, 0), nullptr);
  other = record;
  other.groups.push_back(other.groups[0]);  // a second one, which this rank has not
  EXPECT_EQ(read.FindGroup(other, 0), &read.groups[0]);
  EXPECT_EQ(read.FindGroup(other, 1), nullptr);
}

TEST(FlightRecorderTest, WhatIsNoRecordIsRefused) {
  for (
      const char* text :
      {"", "{", "[]", "{}", R"({"rank":0,"groups":[],"operations":[{"group":0}]})",
       R"({"rank":0,"groups":[],"operations":[{"group":0,"verb":"Send","peer":0,"sequence":1,)"
       R"("bytes":0,"iteration":0,"microbatch":0,"begin_seconds":0,"seconds":0,"running":false}]})"}) {
    try {
      FlightRecord::FromJson(text, "rank-00000.json");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_EQ(error.where(), "rank-00000.json");
    }
  }
}

}  // namespace
}  // namespace cairn
