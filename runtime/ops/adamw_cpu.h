#pragma once

#include "runtime/ops/adamw.h"

/// CPU kernel behind adamw.h; the dispatch there has checked sizes.
namespace cairn::cpu {

void AdamW(const Tensor& main, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& gradient, const DecayRuns& runs, const AdamWStep& step);

}  // namespace cairn::cpu
