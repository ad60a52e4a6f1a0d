#pragma once

#include "runtime/autograd/weight.h"
#include "runtime/ops/adamw.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/dropout.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/reduce_cpu.h"
#include "runtime/tensor/tensor.h"

/// GPU kernels behind the headers of the ops (NAME_cuda.cu behind NAME.h); the dispatch there has
/// checked shapes. They start on the compute stream and never wait for it.
namespace cairn::cuda {

void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
            const Tensor* bias);

// The products of matmul_fused.h; false, with nothing done, where there is no such kernel.
bool MatmulGelu(const Tensor& y, const Tensor& hidden, const Tensor& a, const Tensor& b,
                const MatmulOptions& options, const Tensor* bias);
bool MatmulGeluGradient(const Tensor& dhidden, const Tensor& a, const Tensor& b,
                        const Tensor& hidden, const MatmulOptions& options);
bool AddLinearGradients(const Tensor& weight_sum, const Tensor& bias_sum, const Tensor& dy,
                        const Tensor& x);

void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec);
void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec);
/// The same by the tiles of attention_kernel.h: for every dtype, size and dropout, and slow.
void AttentionForwardByTiles(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                             const AttentionSpec& spec);
void AttentionBackwardByTiles(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv,
                              const Tensor& out, const Tensor& logsumexp,
                              const AttentionSpec& spec);
/// mask [heads, seq_length, seq_length], floating: dropout of one sample's probabilities, 1 where
/// one is kept, else 0.
void AttentionMask(const Tensor& mask, const AttentionSpec& spec, int64_t sample);

void LayerNormForward(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                      const Tensor& gamma, const Tensor& beta, double epsilon);
void LayerNormBackwardInput(const Tensor& dx, const Tensor& dy, const Tensor& x,
                            const Tensor& gamma, const Tensor& mean, const Tensor& rstd);
void LayerNormBackwardGamma(MainGrad& gamma, const Tensor& dy, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd);
void AddRowsToVector(MainGrad& grad, const Tensor& rows);

void GeluForward(const Tensor& y, const Tensor& x);
void GeluBackward(const Tensor& dx, const Tensor& dy, const Tensor& x);

void BiasDropoutAddForward(const Tensor& y, const Tensor& x, const Tensor* bias,
                           const Tensor* residual, const DropoutSpec& spec);

void EmbeddingForward(const Tensor& y, const Tensor& tokens, const Tensor& table,
                      int64_t first_row);
void EmbeddingBackward(MainGrad& table, const Tensor& dy, const Tensor& tokens, int64_t first_row);
void PositionEmbeddingForward(const Tensor& y, const Tensor& x, const Tensor& table,
                              int64_t seq_length, int64_t first_token);
void PositionEmbeddingBackward(MainGrad& table, const Tensor& dy, int64_t seq_length,
                               int64_t first_token);

void CrossEntropyStats(const Tensor& stats, const Tensor& logits, const Tensor& targets,
                       int64_t first_row, int64_t valid);
void CrossEntropyMerge(const Tensor& loss, const Tensor& logsumexp, const Tensor& parts,
                       const Tensor& targets);
void CrossEntropyGradient(const Tensor& logits, const Tensor& targets, const Tensor& logsumexp,
                          int64_t first_row, int64_t valid, const Tensor& loss_gradient);

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const DecayRuns& runs, const AdamWStep& step);

void AddSum(const Tensor& total, const Tensor& x, Power power);
void AddExactSum(const Tensor& bins, const Tensor& x, Power power);

}  // namespace cairn::cuda
