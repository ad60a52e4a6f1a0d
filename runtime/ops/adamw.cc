#include "runtime/ops/adamw.h"

#include <glog/logging.h>

#include "runtime/ops/adamw_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const AdamWStep& step) {
  CHECK(main.contiguous() && exp_avg.contiguous() && exp_avg_sq.contiguous());
  CHECK(gradient.contiguous());
  const int64_t n = main.numel();
  CHECK(exp_avg.numel() == n && exp_avg_sq.numel() == n && gradient.numel() == n);
  Dispatch(
      "adamw", main, [&] { cpu::AdamW(main, exp_avg, exp_avg_sq, gradient, step); },
      [&] { cuda::AdamW(main, exp_avg, exp_avg_sq, gradient, step); });
}

}  // namespace cairn
