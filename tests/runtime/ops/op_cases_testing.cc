#include "op_cases_testing.h"

#include <fmt/format.h>

#include <cmath>

#include "runtime/ops/adamw.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/dropout.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/gelu.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/matmul_fused.h"
#include "runtime/ops/norm.h"
#include "runtime/ops/reduce.h"
#include "runtime/ops/reduce_rows.h"
#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn::testing {
namespace {

using Cases = std::vector<OpCase>;

struct Rows {
  int64_t count;
  int64_t width;
};
// One element; odd; a row per warp and more; GPT-3's widest, and one that no vector width divides.
constexpr Rows kRows[] = {{1, 1}, {3, 7}, {33, 768}, {5, 1000}, {4, 12288}, {2, 12289}};

void AddElementwise(Cases& cases) {
  for (const int64_t n : {1, 1023, 100003}) {
    cases.push_back({"elementwise", fmt::format("{}", n), [n](OpRun& run) {
                       const Tensor a = run.Input({n});
                       const Tensor b = run.Input({n});
                       Add(run.Output({n}, "a + b", Match::kBits), a, b);
                       const Tensor sum = run.Input({n}, DType::kFloat32);
                       run.Changes(sum, "fp32 += a", Match::kBits);
                       AddTo(sum, a);
                       run.Changes(b, "b *= 0.3", Match::kBits);
                       Scale(b, 0.3);
                       Fill(run.Output({n}, "fill", Match::kBits), 0.1);
                       FillZero(run.Output({n}, "zero", Match::kBits));
                     }});
  }
  cases.push_back(
      {"copies", "views", [](OpRun& run) {
         const Tensor whole = run.Input({6, 7, 131});
         const Tensor view = whole.Narrow(0, 1, 4).Narrow(1, 2, 3).Narrow(2, 5, 121);
         CopyTo(run.Output({4, 3, 121}, "from a view", Match::kBits), view);
         for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
           CopyTo(run.Output({4, 3, 121}, dtype, DTypeName(dtype), Match::kBits), view);
         }
         const Tensor target = run.Input({6, 7, 131});
         run.Changes(target, "into a view", Match::kBits);
         CopyTo(target.Narrow(0, 2, 4).Narrow(1, 0, 3).Narrow(2, 1, 121), view);
       }});
}

void AddNorm(Cases& cases) {
  for (const auto& [count, h] : kRows) {
    cases.push_back(
        {"layer_norm", fmt::format("{}x{}", count, h), [count = count, h = h](OpRun& run) {
           const Tensor x = run.Input({count, h}, 2, 0.5);
           const Tensor gamma = run.Input({h}, 0.1, 1);
           const Tensor beta = run.Input({h}, 0.1);
           LayerNormForward(run.Output({count, h}, "y", Match::kSum),
                            run.Output({count}, DType::kFloat32, "mean", Match::kSum),
                            run.Output({count}, DType::kFloat32, "rstd", Match::kSum), x, gamma,
                            beta, 1e-5);
           const Tensor dy = run.Input({count, h});
           const Tensor mean = run.Input({count}, DType::kFloat32, 0.1, 0.5);
           const Tensor rstd = run.Input({count}, DType::kFloat32, 0.05, 0.5);
           LayerNormBackwardInput(run.Output({count, h}, "dx", Match::kSum), dy, x, gamma, mean,
                                  rstd);
           for (const bool exact : {false, true}) {
             MainGrad grad = run.Gradient({h}, exact, "dgamma");
             LayerNormBackwardGamma(grad, dy, x, mean, rstd);
           }
         }});
  }
}

void AddGeluAndDropout(Cases& cases) {
  for (const auto& [count, h] : kRows) {
    cases.push_back({"gelu", fmt::format("{}x{}", count, h), [count = count, h = h](OpRun& run) {
                       const Tensor x = run.Input({count, h}, 3);
                       const Tensor dy = run.Input({count, h});
                       GeluForward(run.Output({count, h}, "y", Match::kRounding), x);
                       GeluBackward(run.Output({count, h}, "dx", Match::kRounding), dy, x);
                     }});
    for (const double p : {0.0, 0.1}) {
      cases.push_back({"dropout", fmt::format("{}x{} p {}", count, h, p),
                       [count = count, h = h, p](OpRun& run) {
                         const Tensor x = run.Input({count, h});
                         const Tensor bias = run.Input({h});
                         const Tensor residual = run.Input({count, h});
                         const DropoutSpec spec{.p = p,
                                                .key = {.seed = 11, .step = 2, .site = 5},
                                                .first_index = (int64_t{1} << 33) + 3};
                         const auto forward = [&](const char* what, const Tensor* with_bias,
                                                  const Tensor* with_residual) {
                           BiasDropoutAddForward(run.Output({count, h}, what, Match::kBits), x,
                                                 with_bias, with_residual, spec);
                         };
                         forward("dropout", nullptr, nullptr);
                         forward("with bias", &bias, nullptr);
                         forward("with residual", nullptr, &residual);
                         forward("with both", &bias, &residual);
                         DropoutBackward(run.Output({count, h}, "dx", Match::kBits), x, spec);
                       }});
    }
  }
}

void AddEmbedding(Cases& cases) {
  for (const auto& [count, h] : kRows) {
    cases.push_back(
        {"embedding", fmt::format("{}x{}", count, h), [count = count, h = h](OpRun& run) {
           constexpr int64_t kTableRows = 19;
           constexpr int64_t kFirstRow = 5;
           // Some of the tokens are other ranks'.
           const Tensor tokens = run.Tokens(count, 2 * kFirstRow + kTableRows);
           const Tensor table = run.Input({kTableRows, h});
           EmbeddingForward(run.Output({count, h}, "y", Match::kBits), tokens, table, kFirstRow);
           const int64_t sequence = (count + 1) / 2;
           const Tensor positions = run.Input({sequence, h});
           const Tensor x = run.Input({count, h});
           PositionEmbeddingForward(run.Output({count, h}, "with positions", Match::kBits), x,
                                    positions, sequence, 1);
           for (const bool exact : {false, true}) {
             MainGrad token_grad = run.Gradient({kTableRows, h}, exact, "dtable");
             EmbeddingBackward(token_grad, x, tokens, kFirstRow);
             MainGrad position_grad = run.Gradient({sequence, h}, exact, "dpositions");
             PositionEmbeddingBackward(position_grad, x, sequence, 1);
             MainGrad bias_grad = run.Gradient({h}, exact, "dbias");
             AddRowsToVector(bias_grad, x);
           }
         }});
  }
}

void AddCrossEntropy(Cases& cases) {
  struct Vocabulary {
    int64_t tokens, columns, valid, first_row;
  };
  // One rank's of GPT-2's vocabulary with its padding, half of it, a small one, padding alone.
  for (const auto& [tokens, columns, valid, first_row] : {Vocabulary{6, 50304, 50257, 0},
                                                          {6, 25152, 25105, 25152},
                                                          {33, 17, 17, 0},
                                                          {3, 128, 0, 0}}) {
    cases.push_back(
        {"cross_entropy", fmt::format("{}x{} from {}", tokens, columns, first_row),
         [tokens = tokens, columns = columns, valid = valid, first_row = first_row](OpRun& run) {
           const Tensor logits = run.Input({tokens, columns}, 3);
           const Tensor targets = run.Tokens(tokens, first_row + valid + 1, 4);
           if (valid > 0) {
             CrossEntropyStats(run.Output({tokens, 3}, DType::kFloat32, "stats", Match::kSum),
                               logits, targets, first_row, valid);
           }
           // Of two ranks: largest logits, sums above one, targets' logits.
           const Tensor parts = run.Input({2, tokens, 3}, DType::kFloat32, 0.2, 3);
           CrossEntropyMerge(run.Output({tokens}, DType::kFloat32, "loss", Match::kRounding),
                             run.Output({tokens}, DType::kFloat32, "logsumexp", Match::kRounding),
                             parts, targets);
           const Tensor logsumexp = run.Input({tokens}, DType::kFloat32, 0.1, 12);
           const Tensor gradient = run.Input({tokens}, DType::kFloat32);
           run.Changes(logits, "dlogits", Match::kRounding);
           CrossEntropyGradient(logits, targets, logsumexp, first_row, valid, gradient);
         }});
  }
}

void AddOptimizer(Cases& cases) {
  for (const int64_t n : {1, 1001, 300000}) {
    cases.push_back({"adamw", fmt::format("{}", n), [n](OpRun& run) {
                       const Tensor main = run.Input({n}, DType::kFloat32, 0.02);
                       const Tensor exp_avg = run.Input({n}, DType::kFloat32, 1e-3);
                       // Squares: not below zero.
                       const Tensor exp_avg_sq = run.Input({n}, DType::kFloat32, 1e-6, 1e-5);
                       const Tensor gradient = run.Input({n}, DType::kFloat32, 1e-2);
                       run.Changes(main, "main", Match::kBits);
                       run.Changes(exp_avg, "exp_avg", Match::kBits);
                       run.Changes(exp_avg_sq, "exp_avg_sq", Match::kBits);
                       const DecayRuns runs({{(n + 1) / 2, true}, {n / 2, false}}, run.device());
                       AdamW(main, exp_avg, exp_avg_sq, gradient, runs,
                             {.lr = 3e-4f,
                              .beta1 = 0.9f,
                              .beta2 = 0.95f,
                              .epsilon = 1e-8f,
                              .weight_decay = 0.1f,
                              .bias_correction1 = 0.19f,
                              .bias_correction2 = 0.0975f,
                              .gradient_factor = 0.37f});
                     }});
    cases.push_back({"sums", fmt::format("{}", n), [n](OpRun& run) {
                       const Tensor x = run.Input({n}, 1, 0.5);
                       const auto total = [&](int64_t count, const char* what, Match match) {
                         const Tensor sum = Tensor::Zeros({count}, DType::kFloat64, run.device());
                         run.Changes(sum, what, match);
                         return sum;
                       };
                       AddSum(total(1, "sum", Match::kDoubleSum), x);
                       AddSumOfSquares(total(1, "squares", Match::kDoubleSum), x);
                       AddExactSum(total(ExactScalar::kBins, "exact sum", Match::kBits), x);
                       AddExactSumOfSquares(
                           total(ExactScalar::kBins, "exact squares", Match::kBits), x);
                     }});
  }
}

void AddMatmul(Cases& cases) {
  struct Size {
    int64_t m, n, k;
  };
  for (const auto& [m, n, k] :
       {Size{1, 1, 1}, {3, 5, 7}, {65, 401, 33}, {128, 256, 192}, {5, 50304, 64}, {8, 24, 12288}}) {
    const bool large = m * n * k > 1 << 21;
    // No product of a model has both transposed.
    for (int transposed = 0; transposed < (large ? 3 : 4); ++transposed) {
      cases.push_back(
          {"matmul",
           fmt::format("{}x{}x{} {}{}", m, n, k, (transposed & 1) != 0 ? "T" : "N",
                       (transposed & 2) != 0 ? "T" : "N"),
           [m = m, n = n, k = k, large, transposed](OpRun& run) {
             const MatmulOptions base{.transpose_a = (transposed & 1) != 0,
                                      .transpose_b = (transposed & 2) != 0};
             // Columns of wider matrices: rows are apart, by what keeps 16 bytes and by what
             // doesn't.
             for (const int64_t gap : {0, 8, 3}) {
               if (large && gap > 0) continue;
               const auto matrix = [&](int64_t rows, int64_t columns) {
                 return run.Input({rows, columns + gap}).Narrow(1, gap, columns);
               };
               const Tensor a = base.transpose_a ? matrix(k, m) : matrix(m, k);
               const Tensor b = base.transpose_b ? matrix(n, k) : matrix(k, n);
               const Tensor bias = run.Input({n});
               Matmul(run.Output({m, n}, "c", Match::kSum), a, b, base);
               Matmul(run.Output({m, n}, "c with bias", Match::kSum), a, b, base, &bias);
               MatmulOptions options = base;
               options.row_block = 24;
               Matmul(run.Output({m, n}, "c in blocks", Match::kSum), a, b, options, &bias);
               options = base;
               options.accumulate = true;
               for (const DType dtype : {run.dtype(), DType::kFloat32}) {
                 const Tensor c = run.Input({m, n + gap}, dtype);
                 run.Changes(c, fmt::format("{} c +=", DTypeName(dtype)), Match::kSum);
                 Matmul(c.Narrow(1, gap, n), a, b, options);
               }
             }
           }});
    }
  }
}

void AddFusedLinear(Cases& cases) {
  constexpr int64_t kRowCount = 40;
  constexpr int64_t kInner = 72;
  for (const int64_t n : {24, 256, 768}) {
    for (const bool with_bias : {false, true}) {
      cases.push_back({"linear_fused",
                       fmt::format("{}x{}x{}{}", kRowCount, n, kInner, with_bias ? " bias" : ""),
                       [n, with_bias](OpRun& run) {
                         // Products of about 1, where GELU is neither 0 nor its operand.
                         const double scale = 1 / std::sqrt(static_cast<double>(kInner));
                         const Tensor x = run.Input({kRowCount, kInner});
                         const Tensor weight = run.Input({n, kInner}, scale);
                         const Tensor bias = run.Input({n});
                         const Tensor hidden = run.Output({kRowCount, n}, "hidden", Match::kSum);
                         MatmulGelu(run.Output({kRowCount, n}, "gelu", Match::kSum), hidden, x,
                                    weight, {.transpose_b = true}, with_bias ? &bias : nullptr);
                         const Tensor next = run.Input({kInner, n}, scale);
                         MatmulGeluGradient(run.Output({kRowCount, n}, "dhidden", Match::kSum), x,
                                            next, run.Input({kRowCount, n}), {});
                         const Tensor dy = run.Input({kRowCount, n});
                         MainGrad dweight = run.Gradient({n, kInner}, false, "dweight");
                         MainGrad dbias = run.Gradient({n}, false, "dbias");
                         AddLinearGradients(dweight, dbias, dy, x);
                       }});
    }
  }
}

void AddAttention(Cases& cases) {
  struct Heads {
    int64_t samples, sequence, heads, groups, dim;
    double dropout;
  };
  for (const auto& [samples, sequence, heads, groups, dim, dropout] : {Heads{1, 1, 1, 1, 8, 0},
                                                                       {2, 33, 2, 2, 16, 0},
                                                                       {2, 65, 4, 2, 64, 0},
                                                                       {1, 40, 3, 1, 9, 0},
                                                                       {2, 128, 4, 4, 64, 0},
                                                                       {1, 200, 6, 2, 128, 0},
                                                                       {1, 40, 2, 1, 256, 0},
                                                                       {2, 65, 4, 2, 64, 0.2},
                                                                       {2, 128, 4, 4, 64, 0.1},
                                                                       {1, 200, 6, 1, 128, 0.3},
                                                                       {1, 40, 3, 1, 9, 0.2}}) {
    const AttentionSpec spec{.samples = samples,
                             .seq_length = sequence,
                             .heads = heads,
                             .groups = groups,
                             .head_dim = dim,
                             .dropout = dropout,
                             .key = {.seed = 7, .step = 3, .site = 1},
                             .first_sample = 5,
                             .first_head = 2,
                             .total_heads = heads + 3};
    cases.push_back({"attention",
                     fmt::format("{}x{}, {} heads of {} in {} groups, dropout {}", samples,
                                 sequence, heads, dim, groups, dropout),
                     [spec](OpRun& run) {
                       const int64_t rows = spec.samples * spec.seq_length;
                       const Shape wide{rows, (spec.heads + 2 * spec.groups) * spec.head_dim};
                       const Shape narrow{rows, spec.heads * spec.head_dim};
                       const Tensor qkv = run.Input(wide);
                       const Tensor out = run.Output(narrow, "out", Match::kAttention);
                       const Tensor logsumexp =
                           run.Output({spec.samples, spec.heads, spec.seq_length}, DType::kFloat32,
                                      "logsumexp", Match::kSum);
                       AttentionForward(out, logsumexp, qkv, spec);
                       AttentionBackward(run.Output(wide, "dqkv", Match::kAttention),
                                         run.Input(narrow), qkv, out, logsumexp, spec);
                     }});
  }
}

}  // namespace

std::vector<OpCase> OpCases() {
  std::vector<OpCase> cases;
  AddElementwise(cases);
  AddNorm(cases);
  AddGeluAndDropout(cases);
  AddEmbedding(cases);
  AddCrossEntropy(cases);
  AddOptimizer(cases);
  AddMatmul(cases);
  AddFusedLinear(cases);
  AddAttention(cases);
  return cases;
}

}  // namespace cairn::testing
