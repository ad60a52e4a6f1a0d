#pragma once

#include <cstdint>

#include "runtime/ops/matmul_tiles.h"

namespace cairn::cpu {

/// The processor's tile instructions, for TileMatmul(): only where TilesWork(). As text for the
/// assembler, so that no compiler option is needed and none of its own code can use them.
struct AmxTiles {
#if defined(__x86_64__)
  /// The calling thread's registers have their shapes from here to End().
  static void Begin() {
    struct alignas(64) Config {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(Config) == 64);
    static constexpr Config kConfig;
    asm volatile("ldtilecfg %0" ::"m"(kConfig));
  }
  static void End() { asm volatile("tilerelease"); }

  template <int t>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  template <int t>
  static void Load(const Tile* from) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(t), "r"(from), "r"(int64_t{64}) : "memory");
  }
  /// sums += a · b, in fp32.
  template <int sums, int a, int b>
  static void MultiplyAdd() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
  }
  /// `stride`: floats from a row to the next.
  template <int t>
  static void Store(float* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(t), "r"(to),
                 "r"(stride * int64_t{sizeof(float)})
                 : "memory");
  }
#endif
};

/// Tries a product of whole numbers by AmxTiles, once, and says whether it came out right: false
/// where the instructions are missing or not granted to this process. Linux must have granted the
/// tile registers already.
bool TilesWork();

}  // namespace cairn::cpu
