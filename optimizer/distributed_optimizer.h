#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/parameter_buffers.h"
#include "parallel/state_piece.h"
#include "runtime/ops/adamw.h"

namespace cairn {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< of parameters that say they decay
  double clip_grad = 1.0;     ///< largest global gradient norm; 0: no clipping
};

struct StepResult {
  double grad_norm = 0;  ///< of the unscaled gradient, before clipping
  bool skipped = false;  ///< nothing was changed: not asked for, or the gradient was not finite
};

/// AdamW (Loshchilov & Hutter 2019) on fp32 main weights. Each rank updates its shard of every
/// bucket; under ZeRO-1 (Rajbhandari et al. 2020) shards are 1/dp and the updated weights are
/// gathered, behind the next forward pass if `overlap`: an op that uses a weight waits for its
/// bucket (Weight::Current). In fp32 without sharding the main weights are the weights themselves.
class DistributedOptimizer {
 public:
  DistributedOptimizer(ParameterBuffers& buffers, const Mesh& mesh, const AdamWOptions& options,
                       bool overlap);
  ~DistributedOptimizer();
  DistributedOptimizer(const DistributedOptimizer&) = delete;
  DistributedOptimizer& operator=(const DistributedOptimizer&) = delete;

  /// One step from the buckets' `shard_gradient`s, which carry the factor `loss_scale`. Unless
  /// `update`, it only measures the gradient.
  StepResult Step(double learning_rate, double loss_scale, bool update = true);

  /// Makes the weights what the main weights say: after a load or an initialisation of State().
  void PublishWeights();

  /// The compute stream waits for all gathers, instead of each op for those of its weights.
  void AwaitWeights();

  /// Main weights and moments of this rank, by parameter. The compute stream has waited for all
  /// gathers: in fp32 the main weights are part of what is gathered.
  std::vector<StatePiece> State();

  /// Steps taken (not skipped): the t of Adam's bias correction.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  struct Segment {  // a parameter's part of a bucket's shard
    const Parameter* parameter;
    int64_t shard_offset;     // in the shard
    int64_t parameter_begin;  // in the flattened local parameter
    int64_t size;
  };
  struct ShardState {
    Tensor main;  // fp32 [shard_size]
    Tensor exp_avg;
    Tensor exp_avg_sq;
    std::vector<Segment> segments;
    DecayRuns decay_runs;  // of the segments
    size_t place = 0;      // of the bucket's gather among all
    Event gathered;
  };

  static std::vector<Segment> SegmentsOf(const Bucket& bucket);
  bool sharded() const { return buffers_->options().shards > 1; }
  /// Whether this rank counts `bucket` in a norm over the mesh.
  bool Counts(const Bucket& bucket) const;
  double GradNorm();
  /// The compute stream waits until the bucket's weights are gathered, and those gathered before.
  void Await(size_t bucket_index);

  ParameterBuffers* buffers_;
  const Mesh* mesh_;
  AdamWOptions options_;
  std::vector<ShardState> shards_;  // by bucket
  int64_t steps_ = 0;
  std::unique_ptr<Stream> gathers_;   // null: on the compute stream
  std::vector<size_t> gather_order_;  // of buckets: those that the forward pass needs first
  size_t awaited_ = 0;                // gathers from this place on may not be done
};

}  // namespace cairn
