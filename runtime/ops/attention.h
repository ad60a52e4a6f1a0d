#pragma once

#include <cstdint>

#include "runtime/autograd/tape.h"
#include "runtime/tensor/random.h"

namespace cairn {

/// The part of an attention layer that one rank computes for one microbatch.
struct AttentionSpec {
  int64_t samples = 0;
  int64_t seq_length = 0;  ///< the samples * seq_length rows are sample-major
  int64_t heads = 0;       ///< of this rank; a multiple of `groups`
  int64_t groups = 0;      ///< key/value heads, each shared by heads / groups query heads
  int64_t head_dim = 0;

  double dropout = 0;  ///< of the attention probabilities
  RandomKey key = {};
  // Dropout element (sample, head, q, k) has the index
  // ((sample * total_heads + head) * seq_length + q) * seq_length + k, all of them global.
  int64_t first_sample = 0;  ///< place of sample 0 in the step's global batch
  int64_t first_head = 0;    ///< place of head 0 in the layer
  int64_t total_heads = 0;   ///< of the layer

  /// A sample's bits depend neither on the other samples nor on timing. Always so on the CPU.
  bool deterministic = false;
};

/// Causal self-attention softmax(q kᵀ / sqrt(head_dim)) v, a block of scores at a time with an
/// online softmax (Milakov and Gimelshein 2018; Dao et al. 2022, 2023): the memory is linear in the
/// sequence length, forward and backward, but for the mask of dropout in cuDNN. The arithmetic is
/// fp32 for every dtype, but that bf16 factors of products, probabilities among them, are
/// multiplied as such where the CPU has fast vectors for it (as Dao et al. do); on a GPU, cuDNN's
/// for bf16 and fp16 (WhyNotCudnn). Deterministic if the tape's products run sample by sample.
///
/// qkv: [T, groups * (heads / groups + 2) * head_dim]; for each group its query heads, then its
/// key, then its value. Returns [T, heads * head_dim].
Value CausalAttention(Tape& tape, const Value& qkv, AttentionSpec spec);

/// out [T, heads * head_dim]; logsumexp [samples, heads, seq_length] (fp32) of the scaled scores.
void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec);

/// dqkv = the gradient of qkv, given that of out; computes the scores anew from what the forward
/// pass kept.
void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec);

}  // namespace cairn
