// What it costs to watch a run, by Google Benchmark: the parts of a step that only detection needs.
//   bench_parallel_detection
#include <benchmark/benchmark.h>

#include <vector>

#include "runtime/checkpoint/digest.h"
#include "runtime/telemetry/flight_recorder.h"
#include "runtime/telemetry/straggler.h"

namespace cairn {
namespace {

// One communication: kept, counted, and its waiting measured.
void RecordOperation(benchmark::State& state) {
  FlightRecorder recorder(0);
  const int group = recorder.AddGroup("tp", {0, 1});
  for (auto _ : state) {
    const FlightRecorder::Scope scope(recorder, group, "AllReduce", 1024);
    const FlightRecorder::Wait wait(recorder);
  }
}
BENCHMARK(RecordOperation);

// The digest of a replica's weights, once in check_weight_hash_across_dp_replicas_interval steps.
void DigestWeights(benchmark::State& state) {
  const std::vector<std::byte> weights(state.range(0));
  for (auto _ : state) {
    Xxh3Stream digest;
    digest.Update(weights);
    benchmark::DoNotOptimize(digest.HexDigest());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(DigestWeights)->ArgName("bytes")->Arg(16 << 20);

// The judgement of one step over so many ranks, four pipeline stages.
void JudgeStragglers(benchmark::State& state) {
  std::vector<int> stages(state.range(0));
  for (size_t rank = 0; rank < stages.size(); ++rank) stages[rank] = static_cast<int>(rank % 4);
  StragglerDetector detector(stages);
  const std::vector<double> busy(stages.size(), 0.1);
  for (auto _ : state) benchmark::DoNotOptimize(detector.Observe(busy, 0.2));
}
BENCHMARK(JudgeStragglers)->ArgName("ranks")->Arg(4)->Arg(1024);

}  // namespace
}  // namespace cairn
