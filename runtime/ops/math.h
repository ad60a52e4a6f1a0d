#pragma once

#include <bit>
#include <cstdint>

#include "runtime/tensor/dtype.h"

// Functions for the inner loops of kernels. They use additions, multiplications and bit operations
// alone, so that a compiler turns a loop over them into vector code and every machine and vector
// width computes the same bits.
namespace cairn {

/// e^x within 1 ulp over the whole range, subnormal results included; 0 and infinity beyond it, NaN
/// for NaN. x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite), then a minimax polynomial of e^r.
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline float Exp(float x) {
  constexpr float kLog2E = 0x1.715476p0f;
  constexpr float kLn2High = 0x1.63p-1f;  // n * kLn2High has no rounding error
  constexpr float kLn2Low = -0x1.bd0106p-13f;
  constexpr float kRound = 0x1.8p23f;  // added: the integer nearest lands in the low bits
  x = x < -104.0f ? -104.0f : x;       // comparisons let NaN pass
  x = x > 89.0f ? 89.0f : x;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 0x1.6a1a72p-10f;
  p = p * r + 0x1.123fc6p-7f;
  p = p * r + 0x1.555916p-5f;
  p = p * r + 0x1.55548ap-3f;
  p = p * r + 0x1.fffffcp-2f;
  const float power = 1.0f + (r + r * r * p);
  // 2^n in two factors: n reaches from -150 to 128, more than one exponent field holds.
  const uint32_t integer = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound);
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(integer) >> 1);
  const float scale1 = std::bit_cast<float>((half + 127u) << 23);
  const float scale2 = std::bit_cast<float>((integer - half + 127u) << 23);
  return power * scale1 * scale2;
}

/// The logistic function 1 / (1 + e^-x), within 3 ulp where it is a normal number.
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline float Sigmoid(float x) {
  return 1.0f / (1.0f + Exp(-x));
}

}  // namespace cairn
