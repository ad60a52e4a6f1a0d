#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "runtime/tensor/dtype.h"

/// Before a loop of constant length over registers, which have no addresses.
#if defined(__CUDA_ARCH__)
#define CAIRN_UNROLL _Pragma("unroll")
#else
#define CAIRN_UNROLL
#endif

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

/// A row that the threads of a block hold in registers, each its share: the packs number thread,
/// thread + threads, ..., and of the elements beyond the last whole pack number `thread`.
template <typename T, int kPacks>
struct HeldRow {
  Pack<T, kPackWidth<T>> packs[kPacks];
  T rest;
};

// A row is an array in memory or held. Of its pack that starts with element `first` and is number
// `slot` of the thread's: a copy; and, where the array may be written, the copy written back.
template <int64_t kWidth, typename T>
CAIRN_HOST_DEVICE inline Pack<std::remove_const_t<T>, kWidth> LoadPack(T* row, int64_t first, int) {
  return *reinterpret_cast<const Pack<std::remove_const_t<T>, kWidth>*>(row + first);
}
template <int64_t kWidth, typename T, int kPacks>
CAIRN_HOST_DEVICE inline Pack<T, kWidth> LoadPack(const HeldRow<T, kPacks>& row, int64_t,
                                                  int slot) {
  return row.packs[slot];
}
template <int64_t kWidth, typename T>
CAIRN_HOST_DEVICE inline void StorePack(T* row, int64_t first,
                                        const Pack<std::remove_const_t<T>, kWidth>& pack) {
  if constexpr (!std::is_const_v<T>) *reinterpret_cast<Pack<T, kWidth>*>(row + first) = pack;
}
template <int64_t kWidth, typename T, int kPacks>
CAIRN_HOST_DEVICE inline void StorePack(const HeldRow<T, kPacks>&, int64_t,
                                        const Pack<T, kWidth>&) {}

// One element, number i, or the thread's beyond the last whole pack.
template <typename T>
CAIRN_HOST_DEVICE inline T& ElementOf(T* row, int64_t i) {
  return row[i];
}
template <typename T, int kPacks>
CAIRN_HOST_DEVICE inline const T& ElementOf(const HeldRow<T, kPacks>& row, int64_t) {
  return row.rest;
}

/// What a row gives for an element: T& or const T&.
template <typename R>
struct RowElementOf;
template <typename T>
struct RowElementOf<T*> {
  using Type = T&;
};
template <typename T, int kPacks>
struct RowElementOf<HeldRow<T, kPacks>> {
  using Type = const T&;
};
template <typename R>
using RowElement = typename RowElementOf<R>::Type;

/// f(i, row[i]...) for the kWidth elements from `first` on, as references to registers.
template <int64_t kWidth, typename F, typename... R>
CAIRN_HOST_DEVICE inline void ZipPack(int64_t first, int slot, const F& f, const R&... rows) {
  const auto zip = [&](auto... packs) {
    CAIRN_UNROLL
    for (int64_t j = 0; j < kWidth; ++j) f(first + j, static_cast<RowElement<R>>(packs.at[j])...);
    (StorePack<kWidth>(rows, first, packs), ...);
  };
  zip(LoadPack<kWidth>(rows, first, slot)...);
}

/// What thread number `thread` of `threads` does of an elementwise kernel: f(i, p[i]...) for its
/// elements, which are references to registers. All threads together take every i in [0, n) once.
/// An array that is const is read only; f writes every element of the others.
template <typename F, typename... P>
CAIRN_HOST_DEVICE inline void ZipShare(int64_t thread, int64_t threads, int64_t n, const F& f,
                                       P*... p) {
  constexpr int64_t kWidth = kPackWidth<P...>;
  const int64_t packed = PackedElements(n, kWidth, (reinterpret_cast<uintptr_t>(p) | ...));
  for (int64_t first = thread * kWidth; first < packed; first += threads * kWidth) {
    ZipPack<kWidth>(first, 0, f, p...);
  }
  for (int64_t i = packed + thread; i < n; i += threads) f(i, p[i]...);
}

}  // namespace cairn
