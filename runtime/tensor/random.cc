#include "runtime/tensor/random.h"

#include <cmath>
#include <numbers>

namespace cairn {

double RandomNormal(const RandomKey& key, uint64_t index) {
  const std::array<uint32_t, 4> words = Philox(key, index / 4);
  const uint32_t pair = (index % 4) / 2 * 2;
  const double u1 = (words[pair] + 1.0) * 0x1p-32;  // (0, 1]: its logarithm is finite
  const double u2 = words[pair + 1] * 0x1p-32;
  const double radius = std::sqrt(-2.0 * std::log(u1));
  const double angle = 2.0 * std::numbers::pi * u2;
  return radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

}  // namespace cairn
