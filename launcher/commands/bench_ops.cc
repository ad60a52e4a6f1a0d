// The ops that a step's time goes to, one at a time.
#include <fmt/format.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/commands/bench_measure.h"
#include "launcher/commands/bench_subcommands.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/run_ranks.h"
#include "runtime/ops/adamw.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/norm.h"

namespace cairn {
namespace {

// What all of these commands are asked.
struct OpArguments {
  std::string precision = "fp32";
  int repeat = 20;
  bool json = false;

  DType dtype() const { return precision == "bf16" ? DType::kBFloat16 : DType::kFloat32; }
};

// One measured op. Ops that compute are rated by operations, those that move memory by bytes.
struct OpRow {
  std::string op;
  std::string shape;
  double seconds;
  double flops;
  double bytes;
};

constexpr int64_t kLargestExtent = int64_t{1} << 31;

template <typename Arguments>
CLI::App* AddOp(CLI::App& bench, const char* name, const char* description,
                const std::shared_ptr<Arguments>& arguments, bool has_precision = true) {
  CLI::App* const command = bench.add_subcommand(name, description);
  if (has_precision) {
    command->add_option("--precision", arguments->precision, "of the operands")
        ->check(CLI::IsMember({"fp32", "bf16"}).description(""))
        ->type_name("fp32|bf16")
        ->capture_default_str();
  }
  command->add_option("--repeat", arguments->repeat, "how often; medians are reported")
      ->check(InRange(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "print JSON");
  return command;
}

void AddExtent(CLI::App* command, const char* name, int64_t& extent, const char* description) {
  command->add_option(name, extent, description)
      ->check(InRange<int64_t>(1, kLargestExtent))
      ->type_name("N")
      ->capture_default_str();
}

void Print(const OpArguments& arguments, const std::vector<OpRow>& rows) {
  if (arguments.json) {
    Json all = Json::array();
    for (const OpRow& row : rows) {
      Json json = {{"op", row.op},
                   {"shape", row.shape},
                   {"precision", arguments.precision},
                   {"milliseconds", row.seconds * 1e3}};
      if (row.flops > 0) json["flops_per_second"] = row.flops / row.seconds;
      if (row.bytes > 0) json["bytes_per_second"] = row.bytes / row.seconds;
      all.push_back(std::move(json));
    }
    return PrintJson(all);
  }
  Table table({"op", "shape", ">ms", ">GFLOP/s", ">GB/s"});
  const auto rate = [](double amount, double seconds) {
    return amount > 0 ? fmt::format("{:.1f}", amount / seconds * 1e-9) : std::string();
  };
  for (const OpRow& row : rows) {
    table.AddRow({row.op, row.shape, fmt::format("{:.3f}", row.seconds * 1e3),
                  rate(row.flops, row.seconds), rate(row.bytes, row.seconds)});
  }
  PrintText(table.Render());
}

struct MatmulArguments : OpArguments {
  int64_t m = 1024;
  int64_t n = 3072;
  int64_t k = 768;
};

// A layer's three products: y = x Wᵀ, dx = dy W, dW += dyᵀ x.
void BenchMatmul(const MatmulArguments& arguments) {
  UseUsableCores();
  const std::unique_ptr<Device> device = NewCpuDevice();
  const auto [m, n, k] = std::array{arguments.m, arguments.n, arguments.k};
  const Tensor x = NoiseTensor({m, k}, arguments.dtype(), *device);
  const Tensor weight = NoiseTensor({n, k}, arguments.dtype(), *device);
  const Tensor dy = NoiseTensor({m, n}, arguments.dtype(), *device);
  const Tensor y = dy.EmptyLike();
  const Tensor dx = x.EmptyLike();
  const Tensor gradient = Tensor::Zeros({n, k}, DType::kFloat32, *device);
  const double flops =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  std::vector<OpRow> rows;
  const auto measure = [&](const char* op, int64_t a, int64_t b, int64_t c, auto work) {
    rows.push_back(
        {op, fmt::format("{}x{}x{}", a, b, c), MedianSeconds(arguments.repeat, work), flops, 0});
  };
  measure("forward", m, n, k, [&] { Matmul(y, x, weight, {.transpose_b = true}); });
  measure("input gradient", m, k, n, [&] { Matmul(dx, dy, weight); });
  measure("weight gradient", n, k, m,
          [&] { Matmul(gradient, dy, x, {.transpose_a = true, .accumulate = true}); });
  Print(arguments, rows);
}

struct AttentionArguments : OpArguments {
  int64_t samples = 1;
  int64_t seq_length = 1024;
  int64_t heads = 12;
  int64_t head_dim = 64;
};

void BenchAttention(const AttentionArguments& arguments) {
  UseUsableCores();
  const std::unique_ptr<Device> device = NewCpuDevice();
  AttentionSpec spec;
  spec.samples = arguments.samples;
  spec.seq_length = arguments.seq_length;
  spec.heads = spec.groups = spec.total_heads = arguments.heads;
  spec.head_dim = arguments.head_dim;
  const int64_t tokens = spec.samples * spec.seq_length;
  const int64_t width = spec.heads * spec.head_dim;
  const Tensor qkv = NoiseTensor({tokens, 3 * width}, arguments.dtype(), *device);
  const Tensor dout = NoiseTensor({tokens, width}, arguments.dtype(), *device);
  const Tensor out = dout.EmptyLike();
  const Tensor dqkv = qkv.EmptyLike();
  const Tensor logsumexp =
      Tensor::Empty({spec.samples, spec.heads, spec.seq_length}, DType::kFloat32, *device);
  // Two products over the scores that the causal mask leaves; five in the backward pass.
  const double product = static_cast<double>(tokens) * static_cast<double>(spec.seq_length + 1) *
                         static_cast<double>(width);
  const std::string shape = fmt::format("{}x{}, {} heads of {}", spec.samples, spec.seq_length,
                                        spec.heads, spec.head_dim);
  std::vector<OpRow> rows;
  rows.push_back(
      {"forward", shape,
       MedianSeconds(arguments.repeat, [&] { AttentionForward(out, logsumexp, qkv, spec); }),
       2 * product, 0});
  rows.push_back({"backward", shape,
                  MedianSeconds(arguments.repeat,
                                [&] { AttentionBackward(dqkv, dout, qkv, out, logsumexp, spec); }),
                  5 * product, 0});
  Print(arguments, rows);
}

struct NormArguments : OpArguments {
  int64_t rows = 1024;
  int64_t columns = 768;
};

void BenchNorm(const NormArguments& arguments) {
  UseUsableCores();
  const std::unique_ptr<Device> device = NewCpuDevice();
  const Shape shape{arguments.rows, arguments.columns};
  const Tensor x = NoiseTensor(shape, arguments.dtype(), *device);
  const Tensor dy = NoiseTensor(shape, arguments.dtype(), *device);
  const Tensor gamma = NoiseTensor({arguments.columns}, arguments.dtype(), *device);
  const Tensor beta = NoiseTensor({arguments.columns}, arguments.dtype(), *device);
  const Tensor y = x.EmptyLike();
  const Tensor mean = Tensor::Empty({arguments.rows}, DType::kFloat32, *device);
  const Tensor rstd = mean.EmptyLike();
  MainGrad gradient(Tensor::Zeros({arguments.columns}, DType::kFloat32, *device));
  constexpr double kEpsilon = 1e-5;
  std::vector<OpRow> rows;
  const auto measure = [&](const char* op, int tensors, auto work) {
    rows.push_back({op, fmt::format("{}x{}", arguments.rows, arguments.columns),
                    MedianSeconds(arguments.repeat, work), 0,
                    tensors * static_cast<double>(x.bytes())});
  };
  measure("forward", 2, [&] { LayerNormForward(y, mean, rstd, x, gamma, beta, kEpsilon); });
  measure("input gradient", 3, [&] { LayerNormBackwardInput(y, dy, x, gamma, mean, rstd); });
  measure("weight gradient", 2, [&] { LayerNormBackwardGamma(gradient, dy, x, mean, rstd); });
  Print(arguments, rows);
}

struct AdamWArguments : OpArguments {
  int64_t elements = 16 << 20;
};

void BenchAdamW(const AdamWArguments& arguments) {
  UseUsableCores();
  const std::unique_ptr<Device> device = NewCpuDevice();
  const Tensor main = NoiseTensor({arguments.elements}, DType::kFloat32, *device);
  const Tensor gradient = NoiseTensor({arguments.elements}, DType::kFloat32, *device);
  const Tensor exp_avg = Tensor::Zeros({arguments.elements}, DType::kFloat32, *device);
  const Tensor exp_avg_sq = Tensor::Zeros({arguments.elements}, DType::kFloat32, *device);
  AdamWStep step;
  step.lr = 1e-4f;
  step.beta1 = 0.9f;
  step.beta2 = 0.95f;
  step.epsilon = 1e-8f;
  const DecayRuns runs({{main.numel(), true}}, main.device());
  // Four tensors read, three written.
  const double bytes = 7.0 * static_cast<double>(main.bytes());
  Print(arguments, {{"adamw", fmt::to_string(arguments.elements),
                     MedianSeconds(arguments.repeat,
                                   [&] { AdamW(main, exp_avg, exp_avg_sq, gradient, runs, step); }),
                     0, bytes}});
}

}  // namespace

void AddBenchMatmul(CLI::App& bench) {
  auto arguments = std::make_shared<MatmulArguments>();
  CLI::App* const command =
      AddOp(bench, "matmul", "the three products of a linear layer", arguments);
  AddExtent(command, "--m", arguments->m, "tokens");
  AddExtent(command, "--n", arguments->n, "outputs");
  AddExtent(command, "--k", arguments->k, "inputs");
  command->callback([arguments] { BenchMatmul(*arguments); });
}

void AddBenchAttention(CLI::App& bench) {
  auto arguments = std::make_shared<AttentionArguments>();
  CLI::App* const command = AddOp(bench, "attention", "causal attention, both passes", arguments);
  AddExtent(command, "--samples", arguments->samples, "sequences");
  AddExtent(command, "--seq-length", arguments->seq_length, "tokens of each");
  AddExtent(command, "--heads", arguments->heads, "attention heads");
  AddExtent(command, "--head-dim", arguments->head_dim, "width of a head");
  command->callback([arguments] { BenchAttention(*arguments); });
}

void AddBenchNorm(CLI::App& bench) {
  auto arguments = std::make_shared<NormArguments>();
  CLI::App* const command = AddOp(bench, "norm", "layer normalisation, both passes", arguments);
  AddExtent(command, "--rows", arguments->rows, "tokens");
  AddExtent(command, "--columns", arguments->columns, "width of a token");
  command->callback([arguments] { BenchNorm(*arguments); });
}

void AddBenchAdamW(CLI::App& bench) {
  auto arguments = std::make_shared<AdamWArguments>();
  CLI::App* const command =
      AddOp(bench, "adamw", "a step of the optimizer", arguments, /*has_precision=*/false);
  AddExtent(command, "--elements", arguments->elements, "parameters");
  command->callback([arguments] { BenchAdamW(*arguments); });
}

}  // namespace cairn
