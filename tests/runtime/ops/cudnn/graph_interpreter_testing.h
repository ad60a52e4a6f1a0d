#pragma once

#include "runtime/ops/cudnn_cuda.h"

namespace cairn::cuda::testing {

/// `cudnn` with its graph API replaced by one that records descriptors and, when a plan is run,
/// computes its operations in double, on the host: what a graph means, with no GPU. One at a time.
Cudnn Interpreted(Cudnn cudnn);

}  // namespace cairn::cuda::testing
