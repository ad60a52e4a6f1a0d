#pragma once

#include <memory>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/parameter_buffers.h"

namespace cairn {

/// Sums gradients over the ranks that share a parameter. The data-parallel sum of a bucket starts
/// on a stream of its own as soon as the last microbatch's backward pass has completed the bucket,
/// while the backward pass goes on (Li et al., "PyTorch Distributed", VLDB 2020).
class GradReducer {
 public:
  /// `shard`: reduce-scatter, each dp rank gets its shard of a bucket (ZeRO, Rajbhandari et al.
  /// 2020); else all-reduce. `overlap`: during the backward pass, else in Finish().
  GradReducer(ParameterBuffers& buffers, const Mesh& mesh, bool shard, bool overlap);
  ~GradReducer();
  GradReducer(const GradReducer&) = delete;
  GradReducer& operator=(const GradReducer&) = delete;

  /// Gradients = 0. `gradient_factor`: the inverse loss scale, see ParameterBuffers.
  void BeginStep(double gradient_factor);
  /// From now on a parameter whose pending contributions have all arrived is complete. Called
  /// before the backward pass of the last microbatch.
  void ExpectLastMicrobatch() { armed_ = true; }
  /// Reduces what is left and waits: then every bucket's `shard_gradient` holds the full sum.
  void Finish();

 private:
  void OnParameterComplete(size_t bucket_index);
  /// Sums over tp (gradients that are partial there) and over both ends of the pipeline (tied).
  void ReduceOverModel(Bucket& bucket);
  void LaunchDataParallel(size_t bucket_index);

  ParameterBuffers* buffers_;
  const Mesh* mesh_;
  bool shard_;
  bool overlap_;
  bool armed_ = false;
  std::vector<size_t> missing_;  // parameters of each bucket that are not complete yet
  std::vector<bool> launched_;
  std::unique_ptr<Stream> stream_;  // where dp > 1
};

}  // namespace cairn
