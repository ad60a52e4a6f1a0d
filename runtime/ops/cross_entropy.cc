#include "runtime/ops/cross_entropy.h"

#include <glog/logging.h>

#include "runtime/ops/cross_entropy_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {
namespace {

void CheckLogits(const Tensor& logits, const Tensor& targets, int64_t valid) {
  CHECK(logits.contiguous() && targets.contiguous());
  CHECK_EQ(logits.rank(), 2);
  CHECK_EQ(logits.dim(0), targets.numel());
  CHECK(valid >= 0 && valid <= logits.dim(1)) << valid << " of " << logits.dim(1) << " columns";
}

}  // namespace

void CrossEntropyStats(const Tensor& stats, const Tensor& logits, const Tensor& targets,
                       int64_t first_row, int64_t valid) {
  CheckLogits(logits, targets, valid);
  CHECK(stats.contiguous() && stats.numel() == 3 * targets.numel());
  Dispatch(
      "cross_entropy", logits,
      [&] { cpu::CrossEntropyStats(stats, logits, targets, first_row, valid); },
      [&] { cuda::CrossEntropyStats(stats, logits, targets, first_row, valid); });
}

void CrossEntropyMerge(const Tensor& loss, const Tensor& logsumexp, const Tensor& parts,
                       const Tensor& targets) {
  CHECK(loss.contiguous() && logsumexp.contiguous() && parts.contiguous());
  CHECK(targets.contiguous());
  CHECK(loss.numel() == targets.numel() && logsumexp.numel() == targets.numel());
  CHECK(parts.rank() == 3 && parts.dim(1) == targets.numel() && parts.dim(2) == 3)
      << parts.shape().ToString();
  Dispatch(
      "cross_entropy", loss, [&] { cpu::CrossEntropyMerge(loss, logsumexp, parts, targets); },
      [&] { cuda::CrossEntropyMerge(loss, logsumexp, parts, targets); });
}

void CrossEntropyGradient(const Tensor& logits, const Tensor& targets, const Tensor& logsumexp,
                          int64_t first_row, int64_t valid, const Tensor& loss_gradient) {
  CheckLogits(logits, targets, valid);
  CHECK(logsumexp.contiguous() && logsumexp.numel() == targets.numel());
  CHECK(loss_gradient.contiguous() && loss_gradient.numel() == targets.numel());
  Dispatch(
      "cross_entropy", logits,
      [&] {
        cpu::CrossEntropyGradient(logits, targets, logsumexp, first_row, valid, loss_gradient);
      },
      [&] {
        cuda::CrossEntropyGradient(logits, targets, logsumexp, first_row, valid, loss_gradient);
      });
}

}  // namespace cairn
