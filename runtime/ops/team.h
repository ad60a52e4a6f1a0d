#pragma once

#include <algorithm>
#include <cstdint>

/// After a lambda's parameters: its body becomes part of the loop it is given to, and is compiled
/// for the same instruction set.
#define CAIRN_INLINE __attribute__((always_inline))

/// Before a loop: no iteration reads what another writes, so vector code needs no alias checks.
#if defined(__GNUC__) && !defined(__clang__)
#define CAIRN_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#else
#define CAIRN_INDEPENDENT_ITERATIONS
#endif

namespace cairn {

// A *team* works together on one row. Kernels (`*_kernel.h`) are templates on the team, so that the
// arithmetic is written once: on a CPU the team is one thread with vector instructions, on a GPU a
// warp or a block. What a kernel may ask of it:
//   for_each(n, f)          f(i) for each i in [0, n), in any order; the calls are independent
//   hold(n, row)            the row to read from in the calls below: `row` itself, or a copy of it
//                           in a GPU's registers, so that memory is read once
//   zip(n, f, row...)       f(i, row[i]...) for each, by references; arrays that are not const are
//                           written whole. On a GPU, 16 bytes at a time where the arrays allow it
//   reduce(n, f, row...)    the fp32 sum of f(i, row[i]...), in an order that is a function of n
//                           alone
//   reduce_max(n, f, row...)  the largest of them; -infinity for n = 0; a NaN may or may not be
//                           seen
//   barrier()               what the team wrote before it, all of the team reads after it;
//                           reductions are barriers too
// Callers are compiled for several instruction sets (CAIRN_CPU_KERNEL): everything is inlined into
// them, and the bits do not depend on the vector width.

/// Rows of n elements that a CPU thread takes at least: starting a thread for less costs more.
constexpr int64_t RowGrain(int64_t n) {
  return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(n, 1));
}

/// One thread. Sums run over 16 lanes, lane l taking the elements l, l + 16, ..., then over a tree.
class CpuTeam {
 public:
  template <typename F>
  [[gnu::always_inline]] void for_each(int64_t n, F&& f) const {
    CAIRN_INDEPENDENT_ITERATIONS
    for (int64_t i = 0; i < n; ++i) f(i);
  }

  template <typename F, typename... P>
  [[gnu::always_inline]] void zip(int64_t n, F&& f, P*... p) const {
    CAIRN_INDEPENDENT_ITERATIONS
    for (int64_t i = 0; i < n; ++i) f(i, p[i]...);
  }

  void barrier() const {}

  template <typename T>
  [[gnu::always_inline]] const T* hold(int64_t, const T* row) const {
    return row;
  }

  template <typename F, typename... P>
  [[gnu::always_inline]] float reduce(int64_t n, F&& f, const P*... p) const {
    return Combine(
        n, f, 0.0f, [](float a, float b) CAIRN_INLINE { return a + b; }, p...);
  }

  template <typename F, typename... P>
  [[gnu::always_inline]] float reduce_max(int64_t n, F&& f, const P*... p) const {
    return Combine(
        n, f, -__builtin_inff(), [](float a, float b) CAIRN_INLINE { return a > b ? a : b; }, p...);
  }

 private:
  static constexpr int64_t kLanes = 16;
  static constexpr int64_t kBlock = 512;  // f is evaluated for this many elements, then combined

  template <typename F, typename Op, typename... P>
  [[gnu::always_inline]] static float Combine(int64_t n, F&& f, float neutral, Op op,
                                              const P*... p) {
    alignas(64) float block[kBlock];
    float lanes[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = neutral;
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t count = std::min(kBlock, n - begin);
      const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
      CAIRN_INDEPENDENT_ITERATIONS
      for (int64_t i = 0; i < count; ++i) block[i] = f(begin + i, p[begin + i]...);
      for (int64_t i = count; i < padded; ++i) block[i] = neutral;
      for (int64_t i = 0; i < padded; i += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) lanes[l] = op(lanes[l], block[i + l]);
      }
    }
    for (int64_t width = kLanes / 2; width > 0; width /= 2) {
      for (int64_t l = 0; l < width; ++l) lanes[l] = op(lanes[l], lanes[l + width]);
    }
    return lanes[0];
  }
};

}  // namespace cairn
