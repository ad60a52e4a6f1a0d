#include "runtime/ops/adamw.h"

#include <glog/logging.h>

#include "runtime/ops/adamw_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

DecayRuns::DecayRuns(const std::vector<Part>& parts, Device& device) {
  std::vector<int64_t> ends;
  bool decays = false;
  for (const Part& part : parts) {
    if (part.size == 0) continue;
    if (ends.empty()) first_decays_ = part.decays;
    if (ends.empty() || part.decays != decays) ends.push_back(numel_);
    decays = part.decays;
    numel_ += part.size;
    ends.back() = numel_;
  }
  runs_ = static_cast<int64_t>(ends.size());
  if (runs_ == 0) return;
  ends_ = Tensor::FromHost<int64_t>(ends, {runs_}, device, MemoryCategory::kOptimizer);
}

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const DecayRuns& runs, const AdamWStep& step) {
  CHECK(main.contiguous() && exp_avg.contiguous() && exp_avg_sq.contiguous());
  CHECK(gradient.contiguous());
  const int64_t n = main.numel();
  CHECK(exp_avg.numel() == n && exp_avg_sq.numel() == n && gradient.numel() == n);
  CHECK_LE(runs.numel(), n);
  if (runs.numel() == 0) return;
  Dispatch(
      "adamw", main, [&] { cpu::AdamW(main, exp_avg, exp_avg_sq, gradient, runs, step); },
      [&] { cuda::AdamW(main, exp_avg, exp_avg_sq, gradient, runs, step); });
}

}  // namespace cairn
