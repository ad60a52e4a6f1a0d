#pragma once

#include <cstdint>
#include <string>

#include "runtime/ops/attention_cudnn.h"
#include "runtime/ops/cudnn_cuda.h"

namespace cairn::cuda {

/// The names by which a call tells the tensors of a graph that are in memory.
enum Uid : int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOut,
  kLogsumexp,
  kOutGradient,
  kQueryGradient,
  kKeyGradient,
  kValueGradient,
  kOutDot,    // backward's own: the sum of out * dout over a row
  kQuerySum,  // backward's own, where nothing must be deterministic: fp32 sums of dq
  kMask,      // of dropout: 1 where a probability is kept, else 0
  kScale,
  kHidden,
  kKept,       // the share of probabilities that dropout keeps
  kKeptScale,  // its inverse, by which they are multiplied
  kFirstVirtual,
};

/// The operations of a pass, in the pattern that cuDNN fuses into one kernel. `what` as for
/// CudnnDescriptor.
CudnnDescriptor ForwardGraph(const Cudnn& cudnn, const CudnnAttention& attention,
                             const std::string& what);
CudnnDescriptor BackwardGraph(const Cudnn& cudnn, const CudnnAttention& attention,
                              const std::string& what);

}  // namespace cairn::cuda
