#include "runtime/ops/amx.h"

#include <setjmp.h>
#include <signal.h>

namespace cairn::cpu {
namespace {

#if defined(__x86_64__)

sigjmp_buf after_refusal;

void OnRefusal(int /*signal*/) { siglongjmp(after_refusal, 1); }

// Small whole numbers: exact in bf16, and so are all their sums in fp32.
float Number(int64_t row, int64_t column) {
  return static_cast<float>((row * 7 + column * 3) % 11 - 5);
}

bool TryProduct() {
  constexpr int64_t kDepthTiles = 2;
  constexpr int64_t kDepth = kDepthTiles * kTileDepth;
  Tile a[2 * kDepthTiles];
  Tile b[2 * kDepthTiles];
  for (int64_t i = 0; i < kTileBlock; ++i) {
    for (int64_t k = 0; k < kDepth; ++k) {
      const int64_t tile = k / kTileDepth * 2 + i / kTileRows;
      const int64_t depth = k % kTileDepth;
      a[tile].element[i % kTileRows * kTileDepth + depth] = BFloat16(Number(i, k));
      b[tile].element[depth / 2 * kTileDepth + i % kTileRows * 2 + depth % 2] =
          BFloat16(Number(k, i));
    }
  }
  alignas(64) float sums[kTileBlock * kTileBlock];
  AmxTiles::Begin();
  MultiplyBlock<AmxTiles>(sums, a, b, kDepthTiles);
  AmxTiles::End();
  for (int64_t i = 0; i < kTileBlock; ++i) {
    for (int64_t j = 0; j < kTileBlock; ++j) {
      float expected = 0;
      for (int64_t k = 0; k < kDepth; ++k) expected += Number(i, k) * Number(k, j);
      if (sums[i * kTileBlock + j] != expected) return false;
    }
  }
  return true;
}

bool TryGuarded() {
  struct sigaction guard = {};
  struct sigaction before_illegal = {};
  struct sigaction before_fault = {};
  guard.sa_handler = OnRefusal;
  // Linux reports a tile configuration that the processor does not take as a fault of memory.
  if (sigaction(SIGILL, &guard, &before_illegal) != 0) return false;
  volatile bool right = false;
  if (sigaction(SIGSEGV, &guard, &before_fault) == 0) {
    if (sigsetjmp(after_refusal, 1) == 0) right = TryProduct();
    (void)sigaction(SIGSEGV, &before_fault, nullptr);
  }
  (void)sigaction(SIGILL, &before_illegal, nullptr);
  return right;
}

#else

bool TryGuarded() { return false; }

#endif

}  // namespace

bool TilesWork() {
  static const bool work = TryGuarded();
  return work;
}

}  // namespace cairn::cpu
