#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

/// Marks a function that holds a hot CPU loop: compiled for AVX-512, AVX2 and plain x86-64, chosen
/// when the program starts. No contraction to fused multiply-add takes place, so all three round
/// alike. (Sanitizers instrument the ifunc resolvers that this needs, before they are themselves
/// ready.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(CAIRN_SANITIZED) && defined(NDEBUG)
#define CAIRN_CPU_KERNEL \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CAIRN_CPU_KERNEL
#endif

namespace cairn {

/// Calls f(begin, end) for disjoint ranges that cover [0, n), on the calling thread's OpenMP team.
/// A range holds at least `grain` items, so that small work stays on one thread. Each item must be
/// computed independently of the range it falls into: the number of threads never changes a result.
template <typename F>
void ParallelFor(int64_t n, int64_t grain, F&& f) {
  const int64_t pieces =
      std::min<int64_t>(omp_get_max_threads(), grain > 0 ? (n + grain - 1) / grain : n);
  if (pieces <= 1 || omp_in_parallel()) {
    if (n > 0) f(int64_t{0}, n);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(pieces))
  for (int64_t piece = 0; piece < pieces; ++piece) {
    f(n * piece / pieces, n * (piece + 1) / pieces);
  }
}

}  // namespace cairn
