// Ops by Google Benchmark, at the extents of a layer of GPT-2's smallest and 1,024 tokens:
//   OMP_NUM_THREADS=2 bench_runtime_ops [--benchmark_filter=...]
#include <benchmark/benchmark.h>

#include <memory>

#include "runtime/ops/adamw.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/dropout.h"
#include "runtime/ops/gelu.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/norm.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

constexpr int64_t kTokens = 1024;
constexpr int64_t kHidden = 768;
constexpr int64_t kFfn = 3072;
constexpr int64_t kVocabulary = 50304;

class OpBenchmark : public benchmark::Fixture {
 protected:
  // fp32 or, where the benchmark's argument is 1, bf16.
  Tensor New(const benchmark::State& state, const Shape& shape) {
    Tensor tensor =
        Tensor::Empty(shape, state.range(0) == 0 ? DType::kFloat32 : DType::kBFloat16, *device_);
    Fill(tensor, 0.5);
    return tensor;
  }
  Tensor New(const Shape& shape, double value = 0.5) {
    Tensor tensor = Tensor::Empty(shape, DType::kFloat32, *device_);
    Fill(tensor, value);
    return tensor;
  }

  std::unique_ptr<Device> device_ = NewCpuDevice();
};

void CountFlops(benchmark::State& state, double flops) {
  state.counters["flop/s"] = benchmark::Counter(
      flops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

BENCHMARK_DEFINE_F(OpBenchmark, Product)(benchmark::State& state) {
  const Tensor x = New(state, {kTokens, kHidden});
  const Tensor weight = New(state, {kFfn, kHidden});
  const Tensor y = New(state, {kTokens, kFfn});
  for (auto _ : state) Matmul(y, x, weight, {.transpose_b = true});
  CountFlops(state, 2.0 * kTokens * kHidden * kFfn);
}

BENCHMARK_DEFINE_F(OpBenchmark, WeightGradient)(benchmark::State& state) {
  const Tensor x = New(state, {kTokens, kHidden});
  const Tensor dy = New(state, {kTokens, kFfn});
  const Tensor sum = New({kFfn, kHidden}, 0);
  for (auto _ : state) Matmul(sum, dy, x, {.transpose_a = true, .accumulate = true});
  CountFlops(state, 2.0 * kTokens * kHidden * kFfn);
}

AttentionSpec Heads() {
  AttentionSpec spec;
  spec.samples = 1;
  spec.seq_length = kTokens;
  spec.heads = spec.groups = spec.total_heads = kHidden / 64;
  spec.head_dim = 64;
  return spec;
}

BENCHMARK_DEFINE_F(OpBenchmark, AttentionForward)(benchmark::State& state) {
  const Tensor qkv = New(state, {kTokens, 3 * kHidden});
  const Tensor out = New(state, {kTokens, kHidden});
  const Tensor logsumexp = New({1, kHidden / 64, kTokens});
  for (auto _ : state) AttentionForward(out, logsumexp, qkv, Heads());
  CountFlops(state, 2.0 * kTokens * (kTokens + 1) * kHidden);
}

BENCHMARK_DEFINE_F(OpBenchmark, AttentionBackward)(benchmark::State& state) {
  const Tensor qkv = New(state, {kTokens, 3 * kHidden});
  const Tensor dqkv = qkv.EmptyLike();
  const Tensor out = New(state, {kTokens, kHidden});
  const Tensor dout = New(state, {kTokens, kHidden});
  const Tensor logsumexp = New({1, kHidden / 64, kTokens});
  AttentionForward(out, logsumexp, qkv, Heads());
  for (auto _ : state) AttentionBackward(dqkv, dout, qkv, out, logsumexp, Heads());
  CountFlops(state, 5.0 * kTokens * (kTokens + 1) * kHidden);
}

BENCHMARK_DEFINE_F(OpBenchmark, LayerNorm)(benchmark::State& state) {
  const Tensor x = New(state, {kTokens, kHidden});
  const Tensor y = x.EmptyLike();
  const Tensor gamma = New(state, {kHidden});
  const Tensor mean = New({kTokens});
  const Tensor rstd = New({kTokens});
  for (auto _ : state) LayerNormForward(y, mean, rstd, x, gamma, gamma, 1e-5);
  state.SetBytesProcessed(state.iterations() * 2 * static_cast<int64_t>(x.bytes()));
}

BENCHMARK_DEFINE_F(OpBenchmark, Gelu)(benchmark::State& state) {
  const Tensor x = New(state, {kTokens, kFfn});
  const Tensor y = x.EmptyLike();
  for (auto _ : state) GeluForward(y, x);
  state.SetBytesProcessed(state.iterations() * 2 * static_cast<int64_t>(x.bytes()));
}

BENCHMARK_DEFINE_F(OpBenchmark, Residual)(benchmark::State& state) {
  const Tensor x = New(state, {kTokens, kHidden});
  const Tensor y = x.EmptyLike();
  const Tensor bias = New(state, {kHidden});
  for (auto _ : state) BiasDropoutAddForward(y, x, &bias, &x, {});
  state.SetBytesProcessed(state.iterations() * 3 * static_cast<int64_t>(x.bytes()));
}

BENCHMARK_DEFINE_F(OpBenchmark, CrossEntropy)(benchmark::State& state) {
  const Tensor logits = New(state, {kTokens, kVocabulary});
  const Tensor targets =
      Tensor::FromHost<int32_t>(std::vector<int32_t>(kTokens, 1), {kTokens}, *device_);
  const Tensor stats = New({1, kTokens, 3});
  for (auto _ : state) CrossEntropyStats(stats.Select(0), logits, targets, 0, kVocabulary);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(logits.bytes()));
}

BENCHMARK_DEFINE_F(OpBenchmark, AdamWStep)(benchmark::State& state) {
  const Shape shape{16 << 20};
  const Tensor main = New(shape);
  const Tensor exp_avg = New(shape, 0);
  const Tensor exp_avg_sq = New(shape, 0);
  const Tensor gradient = New(shape);
  const DecayRuns runs({{main.numel(), true}}, main.device());
  for (auto _ : state) {
    AdamW(main, exp_avg, exp_avg_sq, gradient, runs,
          {.lr = 1e-4f, .beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f});
  }
  state.SetBytesProcessed(state.iterations() * 7 * static_cast<int64_t>(main.bytes()));
}

#define CAIRN_BENCHMARK_OP(name) \
  BENCHMARK_REGISTER_F(OpBenchmark, name)->ArgName("bf16")->Arg(0)->Arg(1)->UseRealTime()
CAIRN_BENCHMARK_OP(Product);
CAIRN_BENCHMARK_OP(WeightGradient);
CAIRN_BENCHMARK_OP(AttentionForward);
CAIRN_BENCHMARK_OP(AttentionBackward);
CAIRN_BENCHMARK_OP(LayerNorm);
CAIRN_BENCHMARK_OP(Gelu);
CAIRN_BENCHMARK_OP(Residual);
CAIRN_BENCHMARK_OP(CrossEntropy);
BENCHMARK_REGISTER_F(OpBenchmark, AdamWStep)->UseRealTime();

}  // namespace
}  // namespace cairn
