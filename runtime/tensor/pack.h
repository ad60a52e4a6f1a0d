#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "runtime/tensor/dtype.h"

namespace cairn {

/// What a GPU's thread reads or writes at once, at most.
inline constexpr int64_t kPackBytes = 16;

/// Neighbouring elements that a thread takes together: 16 bytes of the smallest type of its arrays,
/// and so whole times 16 bytes of the others.
template <typename... T>
inline constexpr int64_t kPackWidth = kPackBytes / static_cast<int64_t>(std::min({sizeof(T)...}));

/// How many of n elements go by packs of `width`: none unless every array starts at a multiple of
/// 16 bytes. `addresses` is all their addresses, or-ed.
CAIRN_HOST_DEVICE constexpr int64_t PackedElements(int64_t n, int64_t width, uintptr_t addresses) {
  return addresses % kPackBytes == 0 ? n - n % width : 0;
}

template <typename T, int64_t kWidth>
struct alignas(kPackBytes) Pack {
  T at[kWidth];
};

/// What thread number `thread` of `threads` does of an elementwise kernel: f(i, p[i]...) for its
/// elements, which are references to registers. All threads together take every i in [0, n) once.
/// An array that is const is read only; f writes every element of the others.
template <typename F, typename... P>
CAIRN_HOST_DEVICE inline void ZipShare(int64_t thread, int64_t threads, int64_t n, F f, P*... p) {
  constexpr int64_t kWidth = kPackWidth<P...>;
  const int64_t packed = PackedElements(n, kWidth, (reinterpret_cast<uintptr_t>(p) | ...));
  for (int64_t first = thread * kWidth; first < packed; first += threads * kWidth) {
    const auto zip = [&](Pack<std::remove_const_t<P>, kWidth>... packs) {
      for (int64_t j = 0; j < kWidth; ++j) f(first + j, static_cast<P&>(packs.at[j])...);
      const auto store = [&](auto* to, const auto& pack) {
        if constexpr (!std::is_const_v<std::remove_pointer_t<decltype(to)>>) {
          *reinterpret_cast<std::remove_cvref_t<decltype(pack)>*>(to) = pack;
        }
      };
      (store(p + first, packs), ...);
    };
    zip(*reinterpret_cast<const Pack<std::remove_const_t<P>, kWidth>*>(p + first)...);
  }
  for (int64_t i = packed + thread; i < n; i += threads) f(i, p[i]...);
}

}  // namespace cairn
