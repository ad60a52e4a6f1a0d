#pragma once

#include <array>
#include <cstdint>

#include "runtime/tensor/dtype.h"

namespace cairn {

/// Names one sequence of random numbers. The number at an index is a pure function of
/// (seed, step, site, index): never of rank, layout, thread or microbatch.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t step = 0;
  uint32_t site = 0;
};

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the four
/// 32-bit words of block `block` of the sequence `key`.
CAIRN_HOST_DEVICE inline std::array<uint32_t, 4> Philox(const RandomKey& key, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block);
  uint32_t c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = key.step;
  uint32_t c3 = key.site;
  uint32_t k0 = static_cast<uint32_t>(key.seed);
  uint32_t k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = static_cast<uint32_t>(p1);
    c2 = n2;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// The 32-bit word of element `index`.
CAIRN_HOST_DEVICE inline uint32_t RandomWord(const RandomKey& key, uint64_t index) {
  return Philox(key, index / 4)[index % 4];
}

/// An element is dropped when its word is below this: probability p in [0, 1) as a 32-bit
/// threshold.
inline uint32_t DropThreshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

/// Standard normal number of element `index` (Box-Muller over a pair of words, in fp64).
double RandomNormal(const RandomKey& key, uint64_t index);

}  // namespace cairn
