#pragma once

#include "runtime/tensor/tensor.h"

namespace cairn {

/// Which power of the elements is summed.
enum class Power : uint8_t { kFirst, kSecond };

}  // namespace cairn

/// CPU kernels behind reduce.h; the dispatch there has checked sizes.
namespace cairn::cpu {

void AddSum(const Tensor& total, const Tensor& x, Power power);
void AddExactSum(const Tensor& bins, const Tensor& x, Power power);

}  // namespace cairn::cpu
