#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "runtime/ops/matmul.h"

namespace cairn {

/// The candidate with the least median of its times (the lower middle one of an even number); among
/// equals the first, which its library thinks best. A candidate without times did not run; nothing
/// where none did.
std::optional<size_t> FastestCandidate(std::span<const std::vector<float>> times);

/// Whether a GPU's product of `operand` may take what follows it into its kernel, if there is such
/// a kernel. `side` is what its epilogue reads or writes beside the result: rows of whole eights,
/// at an address of whole 16 bytes. Not under `row_block` (train.deterministic): GELU would be
/// taken of sums that are not rounded yet, but only in shapes that have such a kernel. Not in fp32,
/// in which the GPU is compared with the CPU op by op.
bool MayFuse(const Tensor& operand, const Tensor& side, const MatmulOptions& options);

}  // namespace cairn
