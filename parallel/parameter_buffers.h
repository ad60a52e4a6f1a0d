#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/parameter.h"

namespace cairn {

/// Parameters that are reduced alike, one after the other in flat memory: collectives and the
/// optimizer work on whole buckets.
struct Bucket {
  // Shared by all parameters of the bucket; see Parameter.
  bool tp_replicated = false;
  bool tp_partial_gradient = false;
  bool tied_across_stages = false;

  std::vector<Parameter*> parameters;
  std::vector<int64_t> offsets;  ///< of each parameter's first element
  int64_t size = 0;              ///< elements, padded to a multiple of the number of shards

  Tensor values;    ///< [size], compute dtype; what forward and backward read
  Tensor gradient;  ///< [size] fp32; undefined in exact mode and without training
  Tensor exact_hi;  ///< [size] fp64, in exact mode (see exact_sum.h)
  Tensor exact_lo;

  /// This rank's part of the optimizer's work: all of it, or 1/dp under ZeRO.
  int64_t shard_begin = 0;
  int64_t shard_size = 0;
  /// [shard_size] fp32: the reduced gradient (a view of `gradient`, or the rounded exact sum).
  Tensor shard_gradient;

  Tensor ShardOf(const Tensor& flat) const { return flat.Narrow(0, shard_begin, shard_size); }
};

/// The flat memory of a rank's parameters and gradients. Binds every Parameter's weight to its
/// piece.
class ParameterBuffers {
 public:
  struct Options {
    DType compute_dtype = DType::kFloat32;
    bool trainable = true;           ///< false: values only
    bool exact_gradients = false;    ///< train.deterministic
    int64_t bucket_bytes = 4 << 20;  ///< of fp32 gradients; a larger parameter has its own bucket
    int shards = 1;                  ///< dp size where the optimizer is sharded, else 1
    int shard_index = 0;
  };

  /// Buckets are filled from the last used parameter to the first, the order in which the backward
  /// pass completes them. `parameters` must outlive the buffers.
  ParameterBuffers(const ParameterList& parameters, Device& device, const Options& options);

  std::vector<Bucket>& buckets() { return buckets_; }
  const ParameterList& parameters() const { return parameters_; }
  const Options& options() const { return options_; }
  Device& device() const { return *device_; }

  /// Gradients = 0; `factor` is what exact sums multiply each term with (the inverse loss scale).
  void ZeroGradients(double factor);

 private:
  void AllocateBucket(Bucket& bucket);

  Device* device_;
  Options options_;
  ParameterList parameters_;
  std::vector<Bucket> buckets_;
  std::vector<std::unique_ptr<MainGrad>> main_grads_;
};

}  // namespace cairn
