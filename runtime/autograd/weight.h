#pragma once

#include <functional>

#include "runtime/tensor/tensor.h"

namespace cairn {

/// Where a weight's gradient is summed over microbatches: in fp32, or exactly, so that neither
/// microbatching nor the data-parallel split can change a bit (train.deterministic).
class MainGrad {
 public:
  /// `sum`: fp32, of the weight's shape.
  explicit MainGrad(Tensor sum) : sum_(std::move(sum)) {}
  /// `hi`, `lo`: fp64, of the weight's shape; see exact_sum.h.
  MainGrad(Tensor hi, Tensor lo) : hi_(std::move(hi)), lo_(std::move(lo)) {}

  bool exact() const { return hi_.defined(); }
  /// The fp32 buffer that products add to in place (beta = 1); not in exact mode.
  const Tensor& sum() const { return sum_; }
  const Tensor& hi() const { return hi_; }
  const Tensor& lo() const { return lo_; }

  /// Adds a gradient of the weight's shape (fp32, bf16, fp16).
  void Add(const Tensor& gradient) { AddRows(0, gradient); }
  /// Adds to the rows [row, row + gradient rows) of the outermost dimension; a gradient of the
  /// shape of one row less the dimension counts as one row.
  void AddRows(int64_t row, const Tensor& gradient);

  /// Inverse loss scale, applied to each addition in exact mode (a power of two).
  void set_factor(double factor) { factor_ = factor; }
  double factor() const { return factor_; }

  // The gradient is complete when every use of the weight has given its part. The forward pass
  // counts uses; `on_complete` is called when the last part of the microbatch being waited for
  // arrived.
  void NoteUse() { ++pending_; }
  void NoteContribution();
  void set_on_complete(std::function<void()> on_complete) { on_complete_ = std::move(on_complete); }

 private:
  Tensor sum_;
  Tensor hi_;
  Tensor lo_;
  double factor_ = 1.0;
  int pending_ = 0;
  std::function<void()> on_complete_;
};

/// A trainable tensor as ops see it. `grad` is null where no gradient is wanted (evaluation).
struct Weight {
  Tensor value;              ///< in the compute dtype
  MainGrad* grad = nullptr;  ///< owned by the gradient buffers
  /// Where set: makes the compute stream wait until `value` is that of this step; it may be on its
  /// way from other ranks.
  std::function<void()> await = {};

  /// `value`, for the forward pass and whoever else comes first after an optimizer step.
  const Tensor& Current() const {
    if (await) await();
    return value;
  }
};

}  // namespace cairn
