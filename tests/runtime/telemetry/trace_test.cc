#include "runtime/telemetry/trace.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/telemetry/stopwatch.h"
#include "tests/runtime/telemetry/telemetry_testing.h"

namespace cairn {
namespace {

using nlohmann::json;
using std::chrono::microseconds;
using std::chrono::milliseconds;

/// The events of a trace file, without those that name the rank.
std::vector<json> Events(const std::string& path) {
  const json trace = json::parse(ReadFile(path));
  EXPECT_EQ(trace.size(), 2U);
  EXPECT_EQ(trace["displayTimeUnit"], "ms");
  std::vector<json> events;
  for (const json& event : trace["traceEvents"]) {
    if (!event["name"].get<std::string>().starts_with("process_")) events.push_back(event);
  }
  return events;
}

TEST(Trace, HoldsSpansCountersAndNames) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("rank-3.json");
  const auto origin = TraceWriter::Clock::now();
  {
    TraceWriter trace(path, 3, origin);
    trace.NameStream(1, "compute");
    trace.Complete(1, "forward \"0\"\n", origin + microseconds(1500), origin + milliseconds(4));
    const std::array<std::pair<std::string_view, double>, 2> memory = {
        {{"parameters", 5}, {"activations", std::numeric_limits<double>::infinity()}}};
    trace.Counter("memory", origin + milliseconds(2), memory);
  }
  EXPECT_EQ(json::parse(ReadFile(path))["traceEvents"][0],
            json::parse(R"({"ph":"M","name":"process_name","pid":3,"args":{"name":"rank 3"}})"));
  const auto events = Events(path);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(
      events[0],
      json::parse(R"({"ph":"M","name":"thread_name","pid":3,"tid":1,"args":{"name":"compute"}})"));
  EXPECT_EQ(events[1], json::parse(R"({"ph":"X","name":"forward \"0\"\n","pid":3,"tid":1,)"
                                   R"("ts":1500.0,"dur":2500.0})"));
  EXPECT_EQ(events[2], json::parse(R"({"ph":"C","name":"memory","pid":3,"ts":2000.0,)"
                                   R"("args":{"parameters":5.0,"activations":null}})"));
}

TEST(Trace, IsWholeJsonAfterEveryFlush) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("rank-0.json");
  TraceWriter trace(path, 0);
  EXPECT_TRUE(Events(path).empty());
  for (size_t i = 1; i <= 5; ++i) {
    { const Span span(&trace, 0, "step"); }
    trace.Flush();
    EXPECT_EQ(Events(path).size(), i);
  }
  for (int i = 0; i < 20000; ++i) trace.NameStream(i, "stream");  // flushed by itself, in part
  const size_t written = Events(path).size();
  EXPECT_GT(written, 10000U);
  EXPECT_LT(written, 20005U);
}

TEST(Trace, TakesEventsFromSeveralThreads) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("rank-0.json");
  {
    TraceWriter trace(path, 0);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int tid = 0; tid < 4; ++tid) {
      threads.emplace_back([&trace, tid] {
        for (int i = 0; i < 1000; ++i) const Span span(&trace, tid, "work");
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::array<int, 4> spans{};
  for (const json& event : Events(path)) ++spans.at(event["tid"].get<size_t>());
  EXPECT_EQ(spans, (std::array<int, 4>{1000, 1000, 1000, 1000}));
}

TEST(Trace, NamesNeedNotBeUtf8) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("rank-0.json");
  TraceWriter trace(path, 0);
  { const Span span(&trace, 0, "\xff\xfe"); }
  trace.Flush();
  EXPECT_EQ(Events(path).size(), 1U);
}

TEST(Trace, ASpanWithoutWriterDoesNothing) { const Span span(nullptr, 0, "nothing"); }

TEST(Trace, AFailedWriteIsReportedAndEndsTheTrace) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("rank-0.json");
  TraceWriter trace(path, 0);
  {
    const FileSizeLimit limit(100);
    { const Span span(&trace, 0, "lost"); }
    EXPECT_THROW(trace.Flush(), Error);
  }
  { const Span span(&trace, 0, "lost too"); }
  EXPECT_THROW(trace.Flush(), Error);
}

TEST(Trace, RefusesAPathThatCannotBe) {
  const TemporaryDirectory directory;
  EXPECT_THROW(TraceWriter(directory.File("missing/rank-0.json"), 0), Error);
}

TEST(WaitClock, AddsUpOverThreads) {
  WaitClock clock;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&clock] {
      for (int j = 0; j < 1000; ++j) clock.Add(std::chrono::microseconds(250));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_DOUBLE_EQ(clock.Seconds(), 1.0);
  EXPECT_DOUBLE_EQ(clock.TakeSeconds(), 1.0);
  EXPECT_DOUBLE_EQ(clock.Seconds(), 0.0);
}

TEST(WaitClock, ScopedWaitMeasuresItsLife) {
  WaitClock clock;
  const Stopwatch whole;
  {
    const ScopedWait wait(clock);
    std::this_thread::sleep_for(milliseconds(5));
    EXPECT_EQ(clock.Seconds(), 0);
  }
  EXPECT_GE(clock.Seconds(), 0.005);
  EXPECT_LE(clock.Seconds(), whole.ElapsedSeconds());
}

}  // namespace
}  // namespace cairn
